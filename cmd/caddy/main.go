// Command caddy is Caddy with its standard modules and the gateway's, for plain
// go build.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/vllm-gateway/vllm-gateway"
)

func main() { caddycmd.Main() }
