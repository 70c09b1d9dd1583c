// Package vllmgateway plugs every module of vllm-gateway into Caddy. It is what
// xcaddy builds with:
//
//	xcaddy build --with github.com/vllm-gateway/vllm-gateway
package vllmgateway

import (
	_ "github.com/vllm-gateway/vllm-gateway/caddymodule" // the modules
)
