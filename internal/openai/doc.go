// Package openai reads and writes the wire formats that clients speak: which
// route a request is for and which model it names (Find, Scan, ScanForm,
// QueryModel), what the gateway changes in its body (Edit, Defaults, Limits, Form), how
// refusals are told (Error), what an answer says that it took (Usage), and how the
// list of models looks (Model).
//
// A request body is never decoded. ScanForm reads a form through a window. Scan walks its bytes once, checks that they
// are JSON, and notes where the top-level members stand; Edit copies the body
// once, with changes at the noted places.
//
// # Whose JSON
//
// vLLM decodes bodies with Python's json.loads on bytes (Starlette's
// Request.json), whose idea of JSON is not that of Go's encoding/json. The
// gateway must read the same model as the server, so Scan accepts a body only
// if Python would find the same in it, and refuses what the two might read
// differently:
//
//	body                       Python            encoding/json      Scan
//	UTF-8 byte order mark      skipped           error              skipped, not sent on
//	UTF-16, UTF-32             accepted          an error           an error
//	invalid UTF-8              error             becomes U+FFFD     error
//	surrogates, raw in UTF-8   accepted          becomes U+FFFD     error
//	surrogates, escaped, lone  kept              becomes U+FFFD     accepted, but not in the model's name
//	NaN, Infinity, -Infinity   accepted          error              accepted
//	keys given twice           the last counts   the last counts    error for keys the gateway manages
//	keys in another case       another key       same struct field  another key
//	integers over 4300 digits  error             accepted           accepted, refused by the server
//	nesting                    about 1000 deep   10000 deep         512 deep
package openai
