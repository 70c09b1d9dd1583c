package openai

import (
	"net/http"
	"strings"
	"testing"
)

func TestCheckForm(t *testing.T) {
	for _, tt := range []struct {
		header   http.Header
		boundary string // empty: refused
	}{
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc"}}, "abc"},
		{http.Header{"Content-Type": {`Multipart/Form-Data;charset=UTF-8; boundary="a=b:c"`}}, "a=b:c"},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW"}, "Content-Encoding": {"identity"}}, "----WebKitFormBoundary7MA4YWxkTrZu0gW"},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=" + strings.Repeat("a", 70)}}, strings.Repeat("a", 70)},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=" + strings.Repeat("a", 71)}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc"}, "Content-Encoding": {"gzip"}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc", "multipart/form-data; boundary=abd"}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc; boundary=abd"}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc; Boundary=abd"}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary*0=a; boundary*1=b"}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data; boundary=abc; charset=utf-16"}}, ""},
		{http.Header{"Content-Type": {`multipart/form-data; boundary="a b"`}}, ""},
		{http.Header{"Content-Type": {`multipart/form-data; boundary=""`}}, ""},
		{http.Header{"Content-Type": {`multipart/form-data; boundary="a\"b"`}}, ""},
		{http.Header{"Content-Type": {"multipart/form-data"}}, ""},
		{http.Header{"Content-Type": {"multipart/mixed; boundary=abc"}}, ""},
		{http.Header{"Content-Type": {"application/json"}}, ""},
		{http.Header{"Content-Type": {""}}, ""},
		{http.Header{}, ""},
	} {
		boundary, err := CheckForm(tt.header)
		if boundary != tt.boundary && err == nil || (err == nil) != (tt.boundary != "") {
			t.Errorf("%v: %q, %v; want %q", tt.header, boundary, err, tt.boundary)
		}
		if err != nil && AsError(err).Status != http.StatusBadRequest {
			t.Errorf("%v: %v", tt.header, err)
		}
	}
}

// A header that names a model past the body is refused, however it is spelt.
func TestCheckContentRefusesAdapterHeader(t *testing.T) {
	for name, ok := range map[string]bool{
		"X-Amzn-SageMaker-Custom-Attributes":  true,
		"X-Amzn-SageMaker-Adapter-Identifier": false,
		"x-amzn-sagemaker-adapter-identifier": false,
	} {
		h := http.Header{}
		h.Set("Content-Type", "application/json")
		h.Set(name, "")
		if err := CheckContent(h); (err == nil) != ok || err != nil && AsError(err).Param != "model" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
