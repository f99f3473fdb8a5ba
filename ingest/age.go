package ingest

import "time"

// noteOpened has a chunk be written when it is old enough.
func (c *Coordinator[R]) noteOpened(ch *chunk[R]) {
	for c.opening.len() > 0 && c.opening.first().taken {
		c.opening.pop()
	}
	c.opening.push(ch)
	if c.opening.len() > 1 {
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
	for c.opening.len() > 0 && !c.over {
		ch := c.opening.first()
		if !ch.taken {
			if left := c.cfg.FlushInterval - now.Sub(ch.opened); left > 0 {
				c.timer.Reset(left)
				return
			}
			ch.due = true
			c.offer(ch.tenant)
		}
		c.opening.pop()
	}
}
