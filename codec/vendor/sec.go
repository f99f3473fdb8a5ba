package vendor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// secCompanyFacts reads the companyfacts bodies of the U.S. Securities and
// Exchange Commission: all XBRL facts of one company
// (https://www.sec.gov/search-filings/edgar-application-programming-interfaces).
//
// The facts of one filing about one period become one record, so that no fact
// replaces another; filings of one day are kept a microsecond apart. All of them
// are in its extra under taxonomy:tag/unit, and the usual figures in the named
// columns as well. The symbol is the CIK, such as CIK0001640147, unless a fixed
// one is given.
func secCompanyFacts() Format[mds.Fundamentals] {
	return Format[mds.Fundamentals]{
		Name: "sec-companyfacts",
		Doc:  "the companyfacts body of the SEC (data.sec.gov/api/xbrl/companyfacts); its symbol is the CIK unless --symbol names one",
		New:  newSECCompanyFacts,
	}
}

// secBody is a companyfacts body: facts by taxonomy, tag and unit.
type secBody struct {
	CIK   json.Number                  `json:"cik"`
	Facts map[string]map[string]secTag `json:"facts"`
}

type secTag struct {
	Units map[string][]json.RawMessage `json:"units"`
}

type secFact struct {
	Start mds.Date     `json:"start"`
	End   mds.Date     `json:"end"`
	Val   *json.Number `json:"val"`
	Accn  string       `json:"accn"`
	Form  string       `json:"form"`
	Filed mds.Date     `json:"filed"`
}

// secColumn is a column that facts feed beside extra. Companies use one tag or
// another for it, some of which mean slightly different things: of these, the
// one that the body has most facts of counts, for all filings. To take what
// each filing has would make a restatement of a change of tags.
type secColumn struct {
	name string
	unit string
	tags []string
}

var secNamed = []secColumn{
	{"revenue", "USD", []string{"us-gaap:Revenues", "us-gaap:RevenueFromContractWithCustomerExcludingAssessedTax", "us-gaap:SalesRevenueNet"}},
	{"operating_income", "USD", []string{"us-gaap:OperatingIncomeLoss"}},
	{"net_income", "USD", []string{"us-gaap:NetIncomeLoss", "us-gaap:ProfitLoss"}},
	{"total_assets", "USD", []string{"us-gaap:Assets"}},
	{"total_liabilities", "USD", []string{"us-gaap:Liabilities"}},
	{"total_equity", "USD", []string{"us-gaap:StockholdersEquity", "us-gaap:StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest"}},
	{"eps", "USD/shares", []string{"us-gaap:EarningsPerShareDiluted", "us-gaap:EarningsPerShareBasicAndDiluted"}},
	{"shares_outstanding", "shares", []string{"dei:EntityCommonStockSharesOutstanding", "us-gaap:CommonStockSharesOutstanding"}},
}

// nameFault says why facts of a name cannot be kept.
func nameFault(name string) error {
	probe := mds.Fundamentals{Extra: map[string]float64{name: 0}}
	var invalid *mds.InvalidError
	if err := probe.Validate(); errors.As(err, &invalid) {
		for _, f := range invalid.Faults {
			if f.Field == "extra" {
				return errors.New("is refused: " + f.Reason)
			}
		}
	}
	return nil
}

// secFiling is what makes one record of facts.
type secFiling struct {
	filed, start, end mds.Date
	accession         string
}

func newSECCompanyFacts(r io.Reader, opt codec.Options) (codec.Decoder[mds.Fundamentals], error) {
	var body secBody
	decoder := json.NewDecoder(r)
	if err := decoder.Decode(&body); err != nil {
		return nil, notBody("a companyfacts body of the SEC", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, &codec.HeaderError{Reason: "it goes on after its companyfacts body; load one body a file"}
	}
	if body.Facts == nil || body.CIK == "" {
		return nil, &codec.HeaderError{Reason: "it is not a companyfacts body of the SEC: it lacks cik or facts"}
	}
	filings := make(map[secFiling]*mds.Fundamentals)
	var items []item[mds.Fundamentals]
	base := mds.Fundamentals{Vendor: "sec", Symbol: fmt.Sprintf("CIK%010s", body.CIK)}
	if err := apply(&base, opt, "vendor", "symbol"); err != nil {
		return nil, err
	}
	reject := func(field, reason, name string, raw json.RawMessage) {
		items = append(items, item[mds.Fundamentals]{line: 1, field: field, fault: field + ": " + name + " " + reason, raw: string(raw)})
	}
	for _, taxonomy := range slices.Sorted(maps.Keys(body.Facts)) {
		for _, tag := range slices.Sorted(maps.Keys(body.Facts[taxonomy])) {
			units := body.Facts[taxonomy][tag].Units
			for _, unit := range slices.Sorted(maps.Keys(units)) {
				name := taxonomy + ":" + tag + "/" + unit
				if err := nameFault(name); err != nil {
					for _, raw := range units[unit] {
						reject("extra", err.Error(), strconv.Quote(name), raw)
					}
					continue
				}
				for _, raw := range units[unit] {
					var fact secFact
					if err := json.Unmarshal(raw, &fact); err != nil {
						reject("extra", "is no fact: "+strings.TrimPrefix(err.Error(), "json: "), name, raw)
						continue
					}
					if fact.Val == nil {
						reject("extra", "has no value", name, raw)
						continue
					}
					value, err := fact.Val.Float64()
					if err != nil {
						reject("extra", "is "+fact.Val.String()+", not a number that can be kept", name, raw)
						continue
					}
					if fact.End.IsZero() || fact.Filed.IsZero() || !fact.Start.IsZero() && fact.End.Compare(fact.Start) < 0 {
						reject("asof", "lacks the end of its period or its filing's date, or starts after it ends", name, raw)
						continue
					}
					if !addFact(filings, &base, name, value, fact) {
						reject("extra", "has two values in one filing", name, raw)
					}
				}
			}
		}
	}
	apart(filings)
	nameSpans(filings)
	chosen := chooseTags(&body)
	keys := slices.SortedFunc(maps.Keys(filings), func(a, b secFiling) int {
		return strings.Compare(fmt.Sprint(a.filed, a.accession, a.end, a.start), fmt.Sprint(b.filed, b.accession, b.end, b.start))
	})
	for _, key := range keys {
		record := filings[key]
		fillNamed(record, chosen)
		items = append(items, item[mds.Fundamentals]{record: *record, line: 1, raw: key.accession})
	}
	return newList(items, []string{"fy", "fp", "frame", "label", "description"}), nil
}

// apart makes the filings of one day records of their own, which the date alone
// does not: each counts as filed a microsecond after the one before, in order of
// their accession numbers.
func apart(filings map[secFiling]*mds.Fundamentals) {
	accessions := make(map[mds.Date][]string)
	for key := range filings {
		if !slices.Contains(accessions[key.filed], key.accession) {
			accessions[key.filed] = append(accessions[key.filed], key.accession)
		}
	}
	for _, list := range accessions {
		slices.Sort(list)
	}
	for key, record := range filings {
		place := slices.Index(accessions[key.filed], key.accession)
		record.FiledAt = record.FiledAt.Add(time.Duration(place) * time.Microsecond)
	}
}

// addFact puts a fact into the record of its filing and its days. It reports
// false for a fact that contradicts one.
func addFact(filings map[secFiling]*mds.Fundamentals, base *mds.Fundamentals, name string, value float64, fact secFact) bool {
	key := secFiling{filed: fact.Filed, start: fact.Start, end: fact.End, accession: fact.Accn}
	record := filings[key]
	if record == nil {
		copied := *base
		record = &copied
		record.Period, record.AsOf = mds.PeriodOf(fact.Start, fact.End), fact.End
		record.FiledAt = fact.Filed.Time()
		record.Form, record.Accession = fact.Form, fact.Accn
		record.Extra = make(map[string]float64)
		filings[key] = record
	}
	if have, ok := record.Extra[name]; ok {
		return have == value
	}
	record.Extra[name] = value
	return true
}

// nameSpans settles spans of as many months but of other days, which end on one
// day in one filing: that of most facts, and of these the latest, is called by
// its months, the others by their days.
func nameSpans(filings map[secFiling]*mds.Fundamentals) {
	type group struct {
		filed, end mds.Date
		accession  string
		period     mds.Period
	}
	winners := make(map[group]secFiling)
	var others []secFiling
	for key, record := range filings {
		g := group{key.filed, key.end, key.accession, record.Period}
		have, ok := winners[g]
		switch {
		case !ok:
			winners[g] = key
		case cmp.Or(cmp.Compare(len(record.Extra), len(filings[have].Extra)), key.start.Compare(have.start)) > 0:
			winners[g] = key
			others = append(others, have)
		default:
			others = append(others, key)
		}
	}
	for _, key := range others {
		days := int(key.end.Time().Sub(key.start.Time()).Hours()/24) + 1
		filings[key].Period = mds.Period(strconv.Itoa(days) + "D")
	}
}

// chooseTags finds the name in extra that each named column is fed by.
func chooseTags(body *secBody) map[string]string {
	chosen := make(map[string]string)
	for _, column := range secNamed {
		most := 0
		for _, tag := range column.tags {
			taxonomy, name, _ := strings.Cut(tag, ":")
			if n := len(body.Facts[taxonomy][name].Units[column.unit]); n > most {
				most = n
				chosen[column.name] = tag + "/" + column.unit
			}
		}
	}
	return chosen
}

// fillNamed copies the usual figures into their columns.
func fillNamed(f *mds.Fundamentals, chosen map[string]string) {
	schema := mds.SchemaOf[mds.Fundamentals]()
	for _, column := range secNamed {
		v, ok := f.Extra[chosen[column.name]]
		if !ok {
			continue
		}
		*schema.Lookup(column.name).OptFloat(f) = mds.Some(v)
		if column.unit != "shares" {
			f.Currency = "USD"
		}
	}
}
