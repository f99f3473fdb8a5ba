package server

import (
	"net/http"
	"time"
)

// gate bounds how many requests of some kind are under way.
type gate struct {
	name   string
	places chan struct{}
}

func newGate(name string, places int) *gate {
	return &gate{name: name, places: make(chan struct{}, places)}
}

// enter takes a place, or refuses: who waits in line here would not know.
func (g *gate) enter() (leave func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places }, nil
	default:
		return nil, &problem{
			status: http.StatusTooManyRequests, code: "too_many_requests", retry: time.Second,
			detail: "too many " + g.name + " are under way; come back a little later",
		}
	}
}
