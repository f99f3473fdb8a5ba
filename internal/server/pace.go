package server

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// paces bounds how many requests of a tenant are answered.
type paces struct {
	rate func(mds.Tenant) float64 // a second; nil bounds none
	mu   sync.Mutex
	of   map[string]*ingest.Quota // by the tenant's id
}

// admit refuses a request of a tenant that has made too many.
func (p *paces) admit(t mds.Tenant, now time.Time) error {
	if p.rate == nil || t.ID == "" { // what anybody may ask for is of no tenant
		return nil
	}
	rate := p.rate(t)
	if rate <= 0 {
		return nil
	}
	p.mu.Lock()
	q := p.of[t.ID]
	if q == nil {
		if len(p.of) >= mostTenants {
			clear(p.of)
		}
		q = ingest.NewQuota(rate, now)
		p.of[t.ID] = q
	}
	p.mu.Unlock()
	wait := q.Take(1, now)
	if wait == 0 {
		return nil
	}
	return &problem{
		status: http.StatusTooManyRequests, code: "too_many_requests", retry: wait,
		detail: fmt.Sprintf("the tenant %s makes more than its %v requests a second: nothing of this was read; come back after the time in Retry-After, and send more at a time", t.Slug, rate),
	}
}
