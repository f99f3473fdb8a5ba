package server

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed reference.html
var referencePage string

// reference is the OpenAPI document for people, as a page that needs nothing else.
func (s *Server) reference() ([]byte, error) {
	page, err := template.New("reference").Funcs(template.FuncMap{"upper": strings.ToUpper, "type": typeText, "media": mediaTypes}).Parse(referencePage)
	if err != nil {
		return nil, err
	}
	type operation struct {
		Method, Path string
		*huma.Operation
	}
	type group struct {
		Name       string
		Operations []operation
	}
	byTag := make(map[string][]operation)
	for _, path := range slices.Sorted(maps.Keys(s.document.Paths)) {
		item := s.document.Paths[path]
		for method, o := range map[string]*huma.Operation{http.MethodPost: item.Post, http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodDelete: item.Delete} {
			if o != nil {
				byTag[o.Tags[0]] = append(byTag[o.Tags[0]], operation{method, path, o})
			}
		}
	}
	var groups []group
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		list := byTag[tag]
		slices.SortFunc(list, func(a, b operation) int {
			return strings.Compare(a.Path+" "+b.Method, b.Path+" "+a.Method) // PUT before POST before GET before DELETE
		})
		groups = append(groups, group{tag, list})
	}
	var text bytes.Buffer
	err = page.Execute(&text, map[string]any{"Info": s.document.Info, "Groups": groups, "Schemas": s.document.Components.Schemas.Map()})
	return text.Bytes(), err
}

// typeText is what values a schema takes, in a few words.
func typeText(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Enum != nil:
		return either(s.Enum)
	case s.Items != nil:
		return "list of " + typeText(s.Items)
	case s.Format == "date-time", s.Format == "date":
		return s.Format
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("%s, %.0f to %.0f", s.Type, *s.Minimum, *s.Maximum)
	}
	return s.Type
}

// mediaTypes lists those of a body.
func mediaTypes(content map[string]*huma.MediaType) string {
	return strings.Join(slices.Sorted(maps.Keys(content)), ", ")
}

// mountReference serves the page.
func (s *Server) mountReference() error {
	text, err := s.reference()
	if err != nil {
		return err
	}
	s.mux.Handle("GET /{$}", s.plain(public, "/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text) // who has gone does not read it
	})))
	return nil
}
