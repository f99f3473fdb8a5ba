package ingest

import "time"

// noteOpened has a chunk be written when it is old enough.
func (c *Coordinator[R]) noteOpened(ch *chunk[R]) {
	c.opening = append(c.opening, ch)
	if len(c.opening) > 1 {
		return
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(c.cfg.FlushInterval, c.aged)
	} else {
		c.timer.Reset(c.cfg.FlushInterval)
	}
}

// aged has the chunks be written that are old enough, and comes back for the next.
func (c *Coordinator[R]) aged() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(c.opening) {
		ch := c.opening[n]
		if !ch.taken {
			if left := c.cfg.FlushInterval - now.Sub(ch.opened); left > 0 {
				c.timer.Reset(left)
				break
			}
			ch.due = true
			c.offer(ch.tenant)
		}
		n++
	}
	left := copy(c.opening, c.opening[n:])
	clear(c.opening[left:])
	c.opening = c.opening[:left]
}
