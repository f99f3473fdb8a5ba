package rpc

import (
	"strings"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
)

// toProto is an event as it is sent. Text that is no UTF-8, which protobuf refuses, has
// U+FFFD where it is none, as in JSON.
func toProto(e *feedback.Event) *feedbackv1.Event {
	to := &feedbackv1.Event{
		CoordinatorId: text(e.CoordinatorID),
		Kind:          text(e.Kind),
		QueueSize:     e.QueueSize,
		Capacity:      e.Capacity,
		Utilization:   e.Utilization,
		Source:        text(e.Source),
		Ts:            e.TS,
		Reason:        text(e.Reason),
		SuggestedRate: e.SuggestedRate,
		ArrivalRate:   e.ArrivalRate,
		Producers:     int64(e.Producers),
		RetryAfterMs:  e.RetryAfterMS,
	}
	switch e.Level {
	case feedback.OK:
		to.Level = feedbackv1.Level_LEVEL_OK
	case feedback.Soft:
		to.Level = feedbackv1.Level_LEVEL_SOFT
	case feedback.Hard:
		to.Level = feedbackv1.Level_LEVEL_HARD
	default:
		to.LevelName = text(string(e.Level))
	}
	return to
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// fromProto is an event as it was received, or what [feedback.Parse] would say of it. A
// level that is not known is kept by its name, or else by its number.
func fromProto(m *feedbackv1.Event) (feedback.Event, error) {
	e := feedback.Event{
		CoordinatorID: m.GetCoordinatorId(),
		Kind:          m.GetKind(),
		QueueSize:     m.GetQueueSize(),
		Capacity:      m.GetCapacity(),
		Utilization:   m.GetUtilization(),
		Level:         feedback.Level(m.GetLevelName()),
		Source:        m.GetSource(),
		TS:            m.GetTs(),
		Reason:        m.GetReason(),
		SuggestedRate: m.GetSuggestedRate(),
		ArrivalRate:   m.GetArrivalRate(),
		Producers:     int(m.GetProducers()),
		RetryAfterMS:  m.GetRetryAfterMs(),
	}
	switch l := m.GetLevel(); l {
	case feedbackv1.Level_LEVEL_UNSPECIFIED:
	case feedbackv1.Level_LEVEL_OK:
		e.Level = feedback.OK
	case feedbackv1.Level_LEVEL_SOFT:
		e.Level = feedback.Soft
	case feedbackv1.Level_LEVEL_HARD:
		e.Level = feedback.Hard
	default:
		if e.Level == "" {
			e.Level = feedback.Level(l.String())
		}
	}
	return e, e.Validate()
}
