// This file owns the configurations of all that is compared.

package main

import (
	"fmt"
	"strings"
)

// site is where a proxy listens and how.
type site struct {
	plain  string // an address for HTTP
	secure string // an address for HTTPS; empty: none
	cert   string // files of the certificate
	key    string
	h2c    bool // HTTP/2 without TLS, too
}

// options are Caddy's global options, the same for all that is compared. The log is
// as Caddy has it by default, but goes to a file.
func (s site) options(more string) string {
	servers := ""
	if s.h2c {
		servers = "\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t}"
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	default_bind 127.0.0.1
	storage file_system storage
	log {
		output file caddy.log
		level INFO
	}%s
%s
}
`, servers, more)
}

// sites are the blocks of the addresses, each with the same directives.
func (s site) sites(directives string) string {
	text := fmt.Sprintf("http://%s {\n%s\n}\n", s.plain, directives)
	if s.secure != "" {
		text += fmt.Sprintf("https://%s {\n\ttls %q %q\n%s\n}\n", s.secure, s.cert, s.key, directives)
	}
	return text
}

// gatewayFile is the gateway with its defaults, in front of the stand-in. Limits are
// those of the measurement; 0 takes the default.
func gatewayFile(s site, upstream string, concurrent, queue int) string {
	limits := ""
	if concurrent > 0 {
		limits = fmt.Sprintf("\t\tmax_concurrent %d\n\t\tmax_queue %d\n", concurrent, queue)
	}
	return s.options(fmt.Sprintf(`	vramman {
		engine bench %s
		gpus static {
			gpu GPU-1 80GiB
		}
%s		model %s {
			repo bench/model
			vram 8GiB
		}
	}`, upstream, limits, benchModel)) + s.sites("\tvllm_gateway")
}

// caddyFile is a bare reverse_proxy.
func caddyFile(s site, upstream string) string {
	return s.options("") + s.sites("\treverse_proxy "+upstream)
}

// waitFile is the least that a Caddy does which has a request wait.
func waitFile(s site) string {
	return s.options("") + s.sites("\troute {\n\t\tbench_wait\n\t}")
}

// partsFile is the gateway's models alone, without a site, for measurements within
// this process. Its log is thrown away.
func partsFile(dir, level string, models int) string {
	var more strings.Builder
	for n := range models - 1 {
		fmt.Fprintf(&more, "\t\tmodel other-%d {\n\t\t\trepo bench/other-%d\n\t\t\tvram 8GiB\n\t\t}\n", n, n)
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %q
	log {
		output bench
		format json
		level %s
	}
	vramman {
		engine bench
		gpus static {
			gpu GPU-1 80GiB
		}
		max_concurrent 1000
		model %s {
			repo bench/model
			alias bench-alias
			vram 8GiB
		}
%s	}
}
`, dir, level, benchModel, more.String())
}
