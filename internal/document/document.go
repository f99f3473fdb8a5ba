// Package document reads JSON documents that people write: members that there are not are
// refused, and what is wrong is said in words of JSON.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrMore is that of a text with more than one document.
var ErrMore = errors.New("there is more than one JSON object")

// Read reads the one document of a text. Its error is one sentence.
func Read(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return inJSON(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return ErrMore
	}
	return nil
}

// inJSON is an error without what Go calls things.
func inJSON(err error) error {
	var wrong *json.UnmarshalTypeError
	switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty: write a JSON object")
	case unknown:
		return fmt.Errorf("there is no member %s", name)
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("it is of another type, %s", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s is of another type, %s", wrong.Field, wrong.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}
