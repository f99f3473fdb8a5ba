package server

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// newDocument is the description of a server, as OpenAPI 3.1 has it.
func newDocument(version string) *huma.OpenAPI {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Market data store", Version: version,
			Description: "Bars, options, fundamentals and news, in and out. Times are RFC 3339 in UTC. " +
				"What fails is answered with a body of application/problem+json (RFC 9457), whose code stays the same when the words change.",
		},
		Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{}},
	}
}

// described is the operation as the document has it.
func (o *operation) described() *huma.Operation {
	op := &huma.Operation{
		Method: o.method, Path: o.path, OperationID: o.id, Summary: o.summary, Description: o.description, Tags: []string{o.tag},
		RequestBody: o.body, Responses: o.responses,
	}
	for _, p := range o.params {
		d := &huma.Param{Name: p.name, In: "query", Description: p.doc, Schema: p.schema}
		if p.header {
			d.In = "header"
		}
		if p.path {
			d.In, d.Required = "path", true
		}
		if p.many {
			explode := true
			d.Style, d.Explode = "form", &explode
		}
		op.Parameters = append(op.Parameters, d)
	}
	if o.scope != public {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: tenantHeader, In: "header", Description: "Whose records it is about, by slug or id", Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	return op
}

// schemaOf describes a Go type.
func (s *Server) schemaOf(v any) *huma.Schema {
	return s.document.Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

func (s *Server) problemResponse(doc string) *huma.Response {
	return &huma.Response{Description: doc, Content: map[string]*huma.MediaType{"application/problem+json": {Schema: s.schemaOf(client.Problem{})}}}
}

// document200 describes an operation that answers with one document.
func (s *Server) document200(doc string, v any) map[string]*huma.Response {
	return map[string]*huma.Response{
		"200":     {Description: doc, Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(v)}}},
		"default": s.problemResponse("It could not be done"),
	}
}

// recordSchema describes a record, as it is written in JSON.
func (k *service[R]) recordSchema() *huma.Schema {
	name := k.schema.Kind
	all := k.document.Components.Schemas.Map()
	if all[name] == nil {
		one := &huma.Schema{Type: huma.TypeObject, Description: "One of the " + name, Properties: make(map[string]*huma.Schema)}
		for i := range k.schema.Columns {
			c := &k.schema.Columns[i]
			one.Properties[c.Name] = columnSchema(c)
		}
		all[name] = one
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

func columnSchema[R any](c *mds.Column[R]) *huma.Schema {
	s := &huma.Schema{Description: c.Doc, Nullable: c.Optional()}
	switch {
	case c.Time != nil:
		s.Type, s.Format = huma.TypeString, "date-time"
	case c.Date != nil:
		s.Type, s.Format = huma.TypeString, "date"
	case c.Decimal != nil, c.Float != nil, c.OptFloat != nil:
		s.Type = huma.TypeNumber
	case c.OptInt != nil:
		s.Type = huma.TypeInteger
	case c.List != nil:
		s.Type, s.Items = huma.TypeArray, &huma.Schema{Type: huma.TypeString}
	case c.Metrics != nil:
		s.Type, s.AdditionalProperties = huma.TypeObject, &huma.Schema{Type: huma.TypeNumber}
	default:
		s.Type = huma.TypeString
	}
	return s
}

// recordsBody describes a body of records.
func (k *service[R]) recordsBody() *huma.RequestBody {
	record := k.recordSchema()
	return &huma.RequestBody{
		Required:    true,
		Description: "Records, in any of these forms, packed with gzip or zstd where Content-Encoding says so",
		Content: map[string]*huma.MediaType{
			typeNDJSON: {Schema: record},
			typeJSON:   {Schema: &huma.Schema{Type: huma.TypeArray, Items: record}},
			typeCSV:    {Schema: &huma.Schema{Type: huma.TypeString, Description: "The first line names the columns"}},
			typeArrow:  {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "A stream of Arrow's IPC format, with columns of these names"}},
		},
	}
}

func (k *service[R]) ingestResponses() map[string]*huma.Response {
	answer := func(doc string) *huma.Response {
		return &huma.Response{Description: doc, Content: map[string]*huma.MediaType{typeJSON: {Schema: k.schemaOf(client.Answer{})}}}
	}
	committed := answer("All rows were read, and what is committed is on the store's disk")
	committed.Headers = replayedHeader()
	return map[string]*huma.Response{
		"200":     committed,
		"202":     answer("All rows were read, and those accepted are queued in memory"),
		"415":     k.problemResponse("The body is in no form that is taken"),
		"422":     k.problemResponse("The Idempotency-Key is that of another request, which was answered before"),
		"429":     k.problemResponse("The queue is full, and nothing was read; Retry-After says when to come back"),
		"503":     k.problemResponse("Not all is on the store's disk; the same body sent again changes nothing that is"),
		"default": k.problemResponse("It could not be done; ledger says what became of the rows that were read"),
	}
}

// recordsResponses describes an answer of records.
func (k *service[R]) recordsResponses() map[string]*huma.Response {
	record := k.recordSchema()
	page := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{
		"records": {Type: huma.TypeArray, Items: record},
		"next":    {Type: huma.TypeString, Nullable: true, Description: "The cursor of what comes after; null where nothing does"},
	}, Required: []string{"records", "next"}}
	return map[string]*huma.Response{
		strconv.Itoa(http.StatusOK): {
			Description: "The records",
			Content: map[string]*huma.MediaType{
				typeJSON: {Schema: page}, typeNDJSON: {Schema: record}, typeCSV: {Schema: &huma.Schema{Type: huma.TypeString}},
				typeArrow: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			},
		},
		"default": k.problemResponse("It could not be done"),
	}
}

func (k *service[R]) seriesResponses() map[string]*huma.Response {
	one := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{
		"rows":  {Type: huma.TypeInteger, Description: "How many records there are"},
		"first": {Type: huma.TypeString, Description: "The time of the oldest"},
		"last":  {Type: huma.TypeString, Description: "The time of the newest"},
	}}
	for _, c := range k.schema.ByRole(mds.Identity) {
		one.Properties[c.Name] = columnSchema(c)
	}
	list := &huma.Schema{Type: huma.TypeObject, Properties: map[string]*huma.Schema{"series": {Type: huma.TypeArray, Items: one}}, Required: []string{"series"}}
	return map[string]*huma.Response{
		"200":     {Description: "The series, in order of identity", Content: map[string]*huma.MediaType{typeJSON: {Schema: list}}},
		"default": k.problemResponse("It could not be done"),
	}
}

// describe serves the document.
func (s *Server) describe() error {
	text, err := s.document.MarshalJSON()
	if err != nil {
		return err
	}
	s.mux.Handle("GET /openapi.json", s.plain(public, "/openapi.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json;version=3.1")
		_, _ = w.Write(text)
	})))
	s.mux.Handle("/", s.plain(public, "other", http.HandlerFunc(s.nothing)))
	return s.mountReference()
}

// nothing answers for what is not there.
func (s *Server) nothing(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" {
			allow = append(allow, method)
		}
	}
	if allow != nil {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		p := &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", detail: "use " + strings.Replace(strings.Join(allow, ", "), ", "+allow[len(allow)-1], " or "+allow[len(allow)-1], 1)}
		p.write(w, requestIDOf(r))
		return
	}
	p := &problem{status: http.StatusNotFound, code: "not_found", detail: "there is no " + strconv.Quote(r.URL.Path) + " here; /openapi.json describes what there is"}
	p.write(w, requestIDOf(r))
}

// handleFeedback serves the events of a kind's coordinator.
func (s *Server) handleFeedback(kind string, h http.Handler) {
	path := "/v1/" + kind + "/feedback"
	o := operation{
		method: http.MethodGet, path: path, id: "feedback-" + kind, tag: kind, scope: mds.ScopeWrite,
		summary:     "Follow how full the queue of " + kind + " is",
		description: "Server-sent events for producers: the level, and the rate at which they should submit. producer=1 counts who follows among those that share the rate.",
		params:      []param{choice("producer", "Whether who follows submits records", "0", "1")},
		responses: map[string]*huma.Response{"200": {Description: "Events, for as long as the client listens", Content: map[string]*huma.MediaType{
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}
	o.limit, o.stream = s.streams, true
	o.serve = func(c *call) error {
		ctx, cancel := until(c.Context(), s.drain)
		defer cancel()
		h.ServeHTTP(c.w, c.r.WithContext(ctx))
		return nil
	}
	s.handle(o)
}
