package mds

import (
	"encoding/json"
	"fmt"
)

// Opt is a value that may be missing. The zero value is missing.
// Two Opts are equal under == when both are missing or both hold equal values.
type Opt[T comparable] struct {
	value T
	valid bool
}

// Some returns an Opt that holds v.
func Some[T comparable](v T) Opt[T] { return Opt[T]{value: v, valid: true} }

// None returns a missing value, the same as the zero Opt.
func None[T comparable]() Opt[T] { return Opt[T]{} }

// Value returns the value and whether there is one.
func (o Opt[T]) Value() (T, bool) { return o.value, o.valid }

// Or returns the value, or fallback where it is missing.
func (o Opt[T]) Or(fallback T) T {
	if o.valid {
		return o.value
	}
	return fallback
}

// String formats the value as fmt does; a missing one is empty.
func (o Opt[T]) String() string {
	if !o.valid {
		return ""
	}
	return fmt.Sprint(o.value)
}

// MarshalJSON writes a missing value as null.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.valid {
		return []byte("null"), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON reads null as missing.
func (o *Opt[T]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*o = Opt[T]{}
		return nil
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*o = Some(v)
	return nil
}
