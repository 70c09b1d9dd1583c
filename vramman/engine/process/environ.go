// This file owns the environment that a server starts with.

package process

import (
	"slices"
	"strings"
)

// A server gets, each overriding the one before:
//
//  1. of the gateway's own environment, what names places and manners of this
//     host (the two lists below), and nothing else: the gateway's environment
//     often holds secrets of other services, and a model's code is not always
//     trusted. A token for Hugging Face has to be passed on by name in the
//     engine's configuration;
//  2. the engine's environment (Spec.Env);
//  3. CUDA_VISIBLE_DEVICES, the cards that it was given;
//  4. the launch's environment, which is the server kind's and the model's.
var (
	passed = []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE",
		"LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX",
		"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "VLLM_CACHE_ROOT",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	}
	passedPrefixes = []string{"LC_", "XDG_"}
)

// inherited is the part of the gateway's environment that servers get.
func inherited(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !slices.Contains(passed, name) &&
			!slices.ContainsFunc(passedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	})
}

// visible confines a CUDA program to the cards of the given UUIDs, in order.
// No cards means none, not all.
func visible(gpus []string) []string {
	return []string{"CUDA_VISIBLE_DEVICES=" + strings.Join(gpus, ",")}
}

// value is the value of a name in an environment, or empty.
func value(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			return v
		}
	}
	return ""
}
