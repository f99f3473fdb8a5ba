package mds

import "time"

// Rollup is a bar that the store made of shorter ones of one series and keeps as they
// change (see [Policy]): the same figures as [Resample] gives. It outlives the bars that
// it was made of, where these are dropped.
type Rollup struct {
	Bar
	// Source is the timeframe of those bars.
	Source Timeframe `json:"source"`
}

// Schema describes the rollups kind, which stores write by themselves.
func (Rollup) Schema() Schema[Rollup] {
	of := SchemaOf[Bar]()
	schema := Schema[Rollup]{
		Kind:      "rollups",
		Noun:      "bar rollup",
		Validate:  (*Rollup).Validate,
		Normalize: func(r *Rollup) { r.normalize() },
		Timeframe: func(r *Rollup) Timeframe { return r.Timeframe },
	}
	for _, c := range of.Columns {
		if c.Role == Time {
			source := Column[Rollup]{
				Name: "source", Role: Identity, Doc: "the timeframe of the bars that it was made of",
				Text: func(r *Rollup) *string { return (*string)(&r.Source) }, Parse: of.Lookup("timeframe").Parse,
			}
			schema.Columns = append(schema.Columns, source)
		}
		schema.Columns = append(schema.Columns, ofBar(c))
	}
	return schema
}

// Validate reports every fault, as an [*InvalidError].
func (r *Rollup) Validate() error {
	if err := r.Bar.Validate(); err != nil {
		return err
	}
	var f faults
	if !r.Source.Fits(r.Timeframe) {
		f.add("source", "bars of "+string(r.Source)+" do not make up bars of "+string(r.Timeframe))
	}
	return f.err()
}

// ofBar is a column of bars as one of rollups.
func ofBar(c Column[Bar]) Column[Rollup] {
	lifted := Column[Rollup]{Name: c.Name, Doc: c.Doc, Role: c.Role, Default: c.Default, Parse: c.Parse}
	switch {
	case c.Text != nil:
		lifted.Text = func(r *Rollup) *string { return c.Text(&r.Bar) }
	case c.Time != nil:
		lifted.Time = func(r *Rollup) *time.Time { return c.Time(&r.Bar) }
	case c.Float != nil:
		lifted.Float = func(r *Rollup) *float64 { return c.Float(&r.Bar) }
	case c.OptFloat != nil:
		lifted.OptFloat = func(r *Rollup) *Opt[float64] { return c.OptFloat(&r.Bar) }
	case c.OptInt != nil:
		lifted.OptInt = func(r *Rollup) *Opt[int64] { return c.OptInt(&r.Bar) }
	}
	return lifted
}
