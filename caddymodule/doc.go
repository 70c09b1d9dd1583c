// Package caddymodule is Caddy's side of the gateway: the app vramman, which says
// which models there are and where they may run, the modules that plug into it,
// the HTTP handlers that serve the models, their Caddyfile, and the subcommands.
//
// The state of models, queues and cards is none of its business: that lives in the
// one manager of package vramman, through all reloads. Configurations come and go
// as generations of it.
package caddymodule

import _ "github.com/vllm-gateway/vllm-gateway/caddymodule/commands" // the subcommands
