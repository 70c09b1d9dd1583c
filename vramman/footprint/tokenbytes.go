package footprint

// This file owns the size of one token in the cache, by the type of its elements.

import "fmt"

// tokenBytes is what an attention layer keeps of one token on one card.
func (l Layer) tokenBytes(launch Launch, element int64) (int64, error) {
	h, k, v := heads(l.KVHeads, launch.TensorParallel), int64(l.KeyDim), int64(l.ValueDim)
	switch dtype := launch.KVCacheDType; {
	case l.Kind == MLA:
		return l.latentBytes(dtype, element)
	case dtype == "" || dtype == "auto":
		return product(h, k+v, element), nil
	case dtype == "bfloat16" || dtype == "float16" || dtype == "half":
		return product(h, k+v, 2), nil
	case dtype == "fp8" || dtype == "fp8_e4m3" || dtype == "fp8_e5m2" || dtype == "fp8_inc":
		return product(h, k+v), nil
	case dtype == "int8_per_token_head" || dtype == "fp8_per_token_head":
		return product(h, k+v+8), nil // two scales of four bytes
	case dtype == "nvfp4":
		return product(h, k/2+k/16+v/2+v/16), nil // a scale for each 16 elements
	default:
		return 0, fmt.Errorf("the size of kv_cache_dtype %q is not known", dtype)
	}
}

// latentBytes is what MLA keeps of one token, the same on every card. Beside
// it a sparse one keeps its indexer's key in 8 bits with a scale for each 128.
func (l Layer) latentBytes(dtype string, element int64) (int64, error) {
	size := product(int64(l.KeyDim), element)
	switch dtype {
	case "", "auto":
	case "bfloat16", "float16", "half":
		size = product(int64(l.KeyDim), 2)
	case "fp8", "fp8_e4m3", "fp8_ds_mla":
		size = int64(l.KeyDim)
		if l.IndexDim > 0 || dtype == "fp8_ds_mla" {
			// The layout of sparse attention's kernels: 512 values, 4 scales of
			// 4 bytes, 64 rotary values of 2 bytes.
			size = 656
		}
	default:
		return 0, fmt.Errorf("the size of kv_cache_dtype %q with compressed keys is not known", dtype)
	}
	if l.IndexDim > 0 {
		size += int64(l.IndexDim) + ceilDiv(int64(l.IndexDim), 128)*4
	}
	return size, nil
}

// elementBytes is the size of an element of the model's type. Models made in
// 32 bits are served in 16 unless they are told otherwise.
func (c Config) elementBytes(l Launch) (int64, error) {
	switch dtype := l.DType; dtype {
	case "", "auto":
	case "float32", "float":
		return 4, nil
	case "bfloat16", "float16", "half":
		return 2, nil
	default:
		return 0, fmt.Errorf("the size of dtype %q is not known", dtype)
	}
	switch c.DType {
	case "", "auto", "float32", "bfloat16", "float16", "float64":
		return 2, nil
	}
	return 0, fmt.Errorf("the size of the model's dtype %q is not known", c.DType)
}
