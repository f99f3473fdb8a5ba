package vendor

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// secCompanyFacts reads the companyfacts bodies of the U.S. Securities and
// Exchange Commission: all XBRL facts of one company
// (https://www.sec.gov/search-filings/edgar-application-programming-interfaces).
//
// The facts of one filing about one period become one record, so that no fact
// replaces another. All of them are in its extra under taxonomy:tag/unit, and
// the usual figures in the named columns as well. The symbol is the CIK, such
// as CIK0001640147, unless a fixed one is given.
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
	Units map[string][]secFact `json:"units"`
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

// secFiling is what makes one record of facts.
type secFiling struct {
	filed, end mds.Date
	period     mds.Period
	accession  string
}

func newSECCompanyFacts(r io.Reader, opt codec.Options) (codec.Decoder[mds.Fundamentals], error) {
	var body secBody
	if err := json.NewDecoder(r).Decode(&body); err != nil {
		return nil, notBody("a companyfacts body of the SEC", err)
	}
	if body.Facts == nil || body.CIK == "" {
		return nil, &codec.HeaderError{Reason: "it is not a companyfacts body of the SEC: it lacks cik or facts"}
	}
	filings := make(map[secFiling]*secRecord)
	var items []item[mds.Fundamentals]
	base := mds.Fundamentals{Vendor: "sec", Symbol: fmt.Sprintf("CIK%010s", body.CIK)}
	if err := apply(&base, opt, "vendor", "symbol"); err != nil {
		return nil, err
	}
	reject := func(field, reason, name string, fact secFact) {
		raw, _ := json.Marshal(fact) // of plain fields: it cannot fail
		items = append(items, item[mds.Fundamentals]{line: 1, field: field, fault: field + ": " + name + " " + reason, raw: string(raw)})
	}
	for _, taxonomy := range slices.Sorted(maps.Keys(body.Facts)) {
		for _, tag := range slices.Sorted(maps.Keys(body.Facts[taxonomy])) {
			units := body.Facts[taxonomy][tag].Units
			for _, unit := range slices.Sorted(maps.Keys(units)) {
				name := taxonomy + ":" + tag + "/" + unit
				for _, fact := range units[unit] {
					if fact.Val == nil {
						reject("extra", "has no value", name, fact)
						continue
					}
					value, err := fact.Val.Float64()
					if err != nil {
						reject("extra", "is "+fact.Val.String()+", not a number that can be kept", name, fact)
						continue
					}
					if fact.End.IsZero() || fact.Filed.IsZero() || !fact.Start.IsZero() && fact.End.Compare(fact.Start) < 0 {
						reject("asof", "lacks the end of its period or its filing's date, or starts after it ends", name, fact)
						continue
					}
					if !addFact(filings, &base, name, value, fact) {
						reject("extra", "has two values in one filing", name, fact)
					}
				}
			}
		}
	}
	chosen := chooseTags(&body)
	keys := slices.SortedFunc(maps.Keys(filings), func(a, b secFiling) int {
		return strings.Compare(fmt.Sprint(a.filed, a.end, a.period), fmt.Sprint(b.filed, b.end, b.period))
	})
	for _, key := range keys {
		record := &filings[key].Fundamentals
		fillNamed(record, chosen)
		items = append(items, item[mds.Fundamentals]{record: *record, line: 1, raw: key.accession})
	}
	return newList(items, []string{"fy", "fp", "frame", "label", "description"}), nil
}

// secRecord is a record being made, with the starts of its facts' periods.
type secRecord struct {
	mds.Fundamentals
	starts map[string]mds.Date
}

// addFact puts a fact into the record of its filing and period. A fact of the
// same name whose span is of as many months but of other days goes into the
// record of its days. It reports false for a fact that contradicts one.
func addFact(filings map[secFiling]*secRecord, base *mds.Fundamentals, name string, value float64, fact secFact) bool {
	key := secFiling{filed: fact.Filed, end: fact.End, period: mds.PeriodOf(fact.Start, fact.End), accession: fact.Accn}
	if record := filings[key]; record != nil {
		if start, ok := record.starts[name]; ok && start != fact.Start {
			days := int(fact.End.Time().Sub(fact.Start.Time()).Hours()/24) + 1
			key.period = mds.Period(fmt.Sprintf("%dD", days))
		}
	}
	record := filings[key]
	if record == nil {
		record = &secRecord{Fundamentals: *base, starts: make(map[string]mds.Date)}
		record.Period, record.AsOf = key.period, key.end
		record.FiledAt = fact.Filed.Time()
		record.Form, record.Accession = fact.Form, fact.Accn
		record.Extra = make(map[string]float64)
		filings[key] = record
	}
	if have, ok := record.Extra[name]; ok {
		return have == value
	}
	record.Extra[name] = value
	record.starts[name] = fact.Start
	return true
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
