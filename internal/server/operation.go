package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
)

// public is the scope of what anybody may ask for.
const public mds.Scope = ""

// anyKey is the scope of what every key may ask for.
const anyKey mds.Scope = "any"

// operation is one thing that the server does, as it is served and described.
type operation struct {
	method, path string
	id, summary  string
	description  string
	tag          string
	scope        mds.Scope // that a key must have; public asks for none
	params       []param
	body         *huma.RequestBody
	responses    map[string]*huma.Response
	// limit bounds how many are under way at once; nil does not.
	limit *gate
	// enter takes a place in the place of limit, where that depends on who asks.
	enter func(*call) (leave func(), err error)
	// stream says that the answer goes on for as long as the client listens.
	stream bool
	// audit says that it is a control action, which is noted with who did it.
	audit bool
	// operator says that it is about all tenants: it takes who looks after the store.
	operator bool
	// read reads the body before anything of the action is noted, and says in the call what of
	// it may be. Nil leaves the body to serve.
	read func(*call) error
	// serve answers. Its error is answered as a problem, where nothing was written yet.
	serve func(*call) error
}

// param is a parameter in the query of the URL or in its path, or a header.
type param struct {
	name, doc string
	schema    *huma.Schema
	many      bool // it may be there several times, or with commas
	header    bool // and not in the query
	path      bool
	secret    bool // it is written into no log
}

func text(name, doc string) param {
	return param{name: name, doc: doc, schema: &huma.Schema{Type: huma.TypeString}}
}

func choice(name, doc, usual string, others ...string) param {
	s := &huma.Schema{Type: huma.TypeString, Default: usual, Enum: []any{usual}}
	for _, o := range others {
		s.Enum = append(s.Enum, o)
	}
	return param{name: name, doc: doc, schema: s}
}

func number(name, doc string, least, most float64) param {
	return param{name: name, doc: doc, schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}}
}

func (p param) several() param {
	p.many = true
	p.schema = &huma.Schema{Type: huma.TypeArray, Items: p.schema}
	return p
}

// inPath has a parameter be a part of the path.
func (p param) inPath() param {
	p.path = true
	return p
}

// call is a request under way.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	id     string // of the request
	moment int64  // among departures of tenants, before the tenant was found
	tenant mds.Tenant
	key    string      // that was presented; "" where none is asked for
	scopes []mds.Scope // that it has
	// operator says that who asks looks after the store of all tenants.
	operator bool
	values   url.Values
	asked    any                 // what the body asks for, where the operation reads it first
	noted    map[string][]string // of the body and the answer, for the audit log
	removed  *int64              // records, once they are; nil where it removes none
	again    *keyed              // what it is known by when it is sent again; nil where it is not
}

// Context is the request's.
func (c *call) Context() context.Context { return c.r.Context() }

// value is a parameter that is there once, "" where it is not.
func (c *call) value(name string) string { return c.values.Get(name) }

// list is a parameter that may be there several times, or with commas: one that is part of an
// item is written with a backslash before it, and so is a backslash.
func (c *call) list(name string) []string { return split(c.values[name]) }

// split takes lists apart.
func split(lists []string) []string {
	var items []string
	for _, v := range lists {
		var item []byte
		for i := 0; i < len(v); i++ {
			switch {
			case v[i] == '\\' && i+1 < len(v) && (v[i+1] == ',' || v[i+1] == '\\'):
				i++
				item = append(item, v[i])
			case v[i] == ',':
				items, item = append(items, string(item)), nil
			default:
				item = append(item, v[i])
			}
		}
		items = append(items, string(item))
	}
	return items
}

// parameters checks those of a request against the operation's.
func (o *operation) parameters(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("bad_parameter", "the query of the URL is no query: "+err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(o.params, func(p param) bool { return p.name == name && !p.header && !p.path })
		if i < 0 {
			return nil, badRequest("bad_parameter", fmt.Sprintf("there is no parameter %q here; %s", name, o.names()))
		}
		p, given := o.params[i], values[name]
		switch {
		case len(given) > 1 && !p.many:
			return nil, badRequest("bad_parameter", name+" is there twice")
		case slices.Contains(given, ""):
			return nil, badRequest("bad_parameter", name+" is there without a value; leave it out")
		case slices.ContainsFunc(given, func(v string) bool { return !utf8.ValidString(v) || strings.ContainsRune(v, 0) }):
			return nil, badRequest("bad_parameter", fmt.Sprintf("%s %q is no text: write UTF-8, without a NUL character", name, given[0]))
		}
		if err := p.oneOf(given); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// oneOf refuses values that are none of those that there are.
func (p *param) oneOf(given []string) error {
	words := p.schema.Enum
	if p.many {
		words, given = p.schema.Items.Enum, split(given)
	}
	for _, v := range given {
		if words != nil && !slices.Contains(words, any(v)) {
			return badRequest("bad_parameter", fmt.Sprintf("%s %q: use %s", p.name, v, either(words)))
		}
	}
	return nil
}

// names lists the operation's parameters.
func (o *operation) names() string {
	var names []string
	for _, p := range o.params {
		if !p.header && !p.path {
			names = append(names, p.name)
		}
	}
	if names == nil {
		return "it takes none"
	}
	return "it takes " + strings.Join(names, ", ")
}

func either(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
