package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/negotiation"
)

// integer is a parameter that is a whole number.
func (c *call) integer(name string, usual, least, most int) (int, error) {
	text := c.value(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, badRequest("bad_parameter", fmt.Sprintf("%s %q: write a whole number from %d to %d", name, text, least, most))
	}
	return n, nil
}

// json answers with a document.
func (c *call) json(status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.document(status, append(text, '\n'))
}

// document answers with a document as it is.
func (c *call) document(status int, text []byte) error {
	c.w.Header().Set("Content-Type", typeJSON)
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	if _, err := c.w.Write(text); err != nil {
		return &cutError{err}
	}
	return nil
}

// forms are the media types of answers, the usual one first.
var forms = []string{typeJSON, typeNDJSON, typeCSV, typeArrow}

// formParam says the form of an answer in the URL, for those who cannot say it in Accept.
func formParam() param {
	return param{name: "format", doc: "The form of the answer, where Accept does not say it", schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"json", "ndjson", "csv", "arrow"}}}
}

// output is the media type of records that a client takes best.
func (s *Server) output(c *call) (string, error) { return c.form(forms) }

// form is the media type, of those that there are, that a client takes best.
func (c *call) form(forms []string) (string, error) {
	switch c.value("format") {
	case "json":
		return typeJSON, nil
	case "ndjson":
		return typeNDJSON, nil
	case "csv":
		return typeCSV, nil
	case "arrow":
		return typeArrow, nil
	}
	accept := strings.Join(c.r.Header.Values("Accept"), ",")
	if accept == "" {
		return forms[0], nil
	}
	form := negotiation.SelectQValue(accept, forms)
	if form == "" {
		if strings.Contains(accept, "*/*") {
			return forms[0], nil
		}
		return "", &problem{
			status: http.StatusNotAcceptable, code: "not_acceptable",
			detail: fmt.Sprintf("Accept is %q: ask for %s or %s", accept, strings.Join(forms[:len(forms)-1], ", "), forms[len(forms)-1]),
		}
	}
	return form, nil
}
