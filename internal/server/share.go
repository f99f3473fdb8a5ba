package server

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
)

// shares bounds what each tenant holds of something that all of them need: no more than is
// left, so that one tenant alone has half of it, and there is always some for another.
type shares struct {
	mu   sync.Mutex
	left int64
	of   map[string]int64 // by the tenant's id
}

func newShares(total int64) *shares { return &shares{left: total, of: make(map[string]int64)} }

// take takes n for a tenant, or reports that it has its share. The first is not measured.
func (s *shares) take(tenant string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.of[tenant]; held > 0 && held+n > s.left || n > s.left {
		return false
	}
	s.left -= n
	s.of[tenant] += n
	return true
}

// give gives back what was taken.
func (s *shares) give(tenant string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += n
	if s.of[tenant] -= n; s.of[tenant] == 0 {
		delete(s.of, tenant)
	}
}

// mostOwed is how far records may wait for their tenant's rate before no other body is begun:
// those under way wait for a second's worth at a time.
const mostOwed = 2 * time.Second

// rate is how many records a second a tenant may send; 0 is any number.
func (s *Server) rate(t mds.Tenant) float64 {
	if s.cfg.Ingest.Rate == nil {
		return 0
	}
	return max(0, s.cfg.Ingest.Rate(t))
}

// enter takes a place for a body. One of a tenant that waits for its rate already is
// refused: it would wait too, and hold what others need.
func (k *service[R]) enter(c *call) (leave func(), err error) {
	if k.rate(c.tenant) == 0 {
		return k.ingests.enter()
	}
	if owed := k.coordinator.For(c.tenant).Owed(); owed > mostOwed {
		return nil, &problem{
			status: http.StatusTooManyRequests, code: "too_many_requests", retry: owed,
			detail: fmt.Sprintf("the tenant %s sends more than its %v records a second: nothing of this was read; come back after the time in Retry-After", c.tenant.Slug, k.rate(c.tenant)),
		}
	}
	if !k.bodies.take(c.tenant.ID, 1) {
		return nil, tooMany(c.tenant)
	}
	place, err := k.ingests.enter()
	if err != nil {
		k.bodies.give(c.tenant.ID, 1)
		return nil, err
	}
	return func() {
		place()
		k.bodies.give(c.tenant.ID, 1)
	}, nil
}

// tooMany refuses a body of a tenant that has its share.
func tooMany(t mds.Tenant) error {
	return &problem{
		status: http.StatusTooManyRequests, code: "too_many_requests", retry: time.Second,
		detail: fmt.Sprintf("the bodies of the tenant %s that are under way hold all that one tenant with a rate may; come back a little later", t.Slug),
	}
}
