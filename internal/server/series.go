package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

func (k *service[R]) seriesOperation() operation {
	return operation{
		method: http.MethodGet, path: "/v1/" + k.schema.Kind + "/series", id: "series-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeRead,
		summary:     "List the series of " + k.schema.Kind,
		description: "Each has what identifies it, how many records the store holds of it, and the times of the oldest and the newest.",
		params:      k.selectionParams(),
		responses:   k.seriesResponses(),
		limit:       k.queries,
		serve: func(c *call) error {
			sel, err := k.selection(c)
			if err != nil {
				return err
			}
			list, err := k.table.Series(c.Context(), c.tenant, sel)
			if err != nil {
				return err
			}
			out := struct {
				Series []json.RawMessage `json:"series"`
			}{make([]json.RawMessage, len(list))}
			for i := range list {
				out.Series[i] = k.seriesText(&list[i])
			}
			return c.json(http.StatusOK, out)
		},
	}
}

// seriesText is a series as JSON: its identity, with the names of the columns, and what
// there is of it.
func (k *service[R]) seriesText(s *mds.Series[R]) json.RawMessage {
	text := []byte{'{'}
	for _, c := range k.schema.ByRole(mds.Identity) {
		text = append(append(append(text, '"'), c.Name...), '"', ':')
		text = append(c.AppendJSON(text, &s.Identity), ',')
	}
	form := time.RFC3339Nano
	if k.schema.Dated() {
		form = time.DateOnly
	}
	rest, _ := json.Marshal(struct { // numbers and times
		Rows  int64  `json:"rows"`
		First string `json:"first"`
		Last  string `json:"last"`
	}{s.Rows, s.First.Format(form), s.Last.Format(form)})
	return append(text, rest[1:]...)
}

func (k *service[R]) latestOperation() operation {
	return operation{
		method: http.MethodGet, path: "/v1/" + k.schema.Kind + "/latest", id: "latest-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeRead,
		summary:     "Read the newest of each series of " + k.schema.Kind,
		description: "Records come in order of identity. It takes every form that a window does.",
		params:      append(k.selectionParams(), formParam()),
		responses:   k.recordsResponses(),
		limit:       k.queries,
		serve: func(c *call) error {
			sel, err := k.selection(c)
			if err != nil {
				return err
			}
			form, err := k.output(c)
			if err != nil {
				return err
			}
			records, err := k.table.Latest(c.Context(), c.tenant, sel)
			if err != nil {
				return err
			}
			all := func(yield func(R, error) bool) {
				for r := range slices.Values(records) {
					if !yield(r, nil) {
						return
					}
				}
			}
			return send(c, form, all, 0, &page[R]{schema: &k.schema})
		},
	}
}
