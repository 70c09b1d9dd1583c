package vramman

import "github.com/vllm-gateway/vllm-gateway/vramman/server"

func (*script) sleepServer(*Instance) {}
func (*script) wakeServer(*Instance)  {}
func (s *script) size(r *record, _ *engineHandle, in []server.Setting) {
	s.sizings = append(s.sizings, scriptSizing{r, r.hash, in})
}

func (*script) loadStore(Store)                    {}
func (*script) saveStore(Store, map[string][]byte) {}
func (*script) list(uint64, *engineHandle)         {}
func (*script) discard(*engineHandle, string)      {}
