package feedback

// Watermarks are the shares of the capacity at which levels begin. A level ends Margin
// below where it began, so that a queue which stands at a mark does not flutter.
type Watermarks struct {
	// Low is where soft begins. Defaults to 0.5.
	Low float64
	// High is where hard begins. Defaults to 0.8.
	High float64
	// Margin defaults to 0.1.
	Margin float64
}

// WithDefaults fills in what is not set.
func (w Watermarks) WithDefaults() Watermarks {
	if w.Low == 0 {
		w.Low = 0.5
	}
	if w.High == 0 {
		w.High = 0.8
	}
	if w.Margin == 0 {
		w.Margin = 0.1
	}
	return w
}

// Next is the level of a queue that was at one level and is so full now. A level further
// than the next is reached in steps, each of which is a level of its own.
func (w Watermarks) Next(was Level, utilization float64) Level {
	switch {
	case was == OK && utilization >= w.Low:
		return Soft
	case was == Soft && utilization >= w.High:
		return Hard
	case was == Hard && utilization < w.High-w.Margin:
		return Soft
	case was == Soft && utilization < w.Low-w.Margin:
		return OK
	}
	return was
}

// Between is the range of utilization within which a level stays.
func (w Watermarks) Between(l Level) (from, below float64) {
	switch l {
	case OK:
		return -1, w.Low
	case Soft:
		return w.Low - w.Margin, w.High
	}
	return w.High - w.Margin, 2
}
