package document_test

import (
	"testing"

	"github.com/marketdatastore/mds/internal/document"
)

// TestRead says of each text that is no document what is wrong, in no words of Go's.
func TestRead(t *testing.T) {
	for text, want := range map[string]string{
		`{"files": ["a"], "step": {"n": 1}} `: "",
		``:                                    "it is empty: write a JSON object",
		`{"file": ["a"]}`:                     `there is no member "file"`,
		`{"files": "a"}`:                      "files is of another type, string",
		`{"step": {"n": "one"}}`:              "step.n is of another type, string",
		`[]`:                                  "it is of another type, array",
		`{"files": ["a"]} {}`:                 "there is more than one JSON object",
		`{"files": ["a"`:                      "unexpected EOF",
		`{"files": ["a"]; "b": 1}`:            "invalid character ';' after object key:value pair",
	} {
		var into struct {
			Files []string `json:"files"`
			Step  struct {
				N int `json:"n"`
			} `json:"step"`
		}
		err := document.Read([]byte(text), &into)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want || want == "" && (into.Files[0] != "a" || into.Step.N != 1) {
			t.Errorf("%s: %q, %+v, want %q", text, got, into, want)
		}
	}
}
