// This file owns where in a request a client's key stands.

package caddymodule

import (
	"net/http"
	"strings"
)

// credentialHeaders are where keys stand, in the order in which they are looked at:
// OpenAI's, Anthropic's and Azure's.
var credentialHeaders = []string{"Authorization", "X-Api-Key", "Api-Key"}

// takeCredentials returns the keys that a client presents, and takes all headers
// with credentials out of the request: the handlers that come next, and whatever they
// log or send on, cannot show what is not there. Caddy's access log has its own copy
// of the request; open says that a key stands where it shows that.
func takeCredentials(r *http.Request) (presented []string, open bool) {
	for _, header := range credentialHeaders {
		values := r.Header[header]
		delete(r.Header, header)
		if len(values) != 1 { // several: programs would differ in which one counts
			continue
		}
		value := values[0]
		if header == "Authorization" {
			scheme, key, _ := strings.Cut(value, " ")
			if !strings.EqualFold(scheme, "Bearer") {
				continue
			}
			value = key
		}
		if value = strings.TrimSpace(value); value != "" && len(value) <= maxKeyLength {
			presented = append(presented, value)
			open = open || header != "Authorization"
		}
	}
	return presented, open
}
