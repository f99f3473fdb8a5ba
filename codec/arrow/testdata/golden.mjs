// Writes bars.arrows and news.arrows, and prints what it reads of a stream:
//
//	npm install apache-arrow@21.2.0
//	node golden.mjs write
//	node golden.mjs read written.arrows
import { readFileSync, writeFileSync } from "node:fs";
import {
  Bool, Dictionary, Field, Float32, Float64, Int32, Int64, List, RecordBatch, RecordBatchStreamWriter, Schema, Struct,
  TimestampMicrosecond, TimestampMillisecond, Utf8, makeData, tableFromIPC, vectorFromArray,
} from "apache-arrow";

// stream writes batches, each an object of vectors, as one stream.
function stream(path, types, batches) {
  const schema = new Schema(Object.entries(types).map(([name, type]) => new Field(name, type, true)));
  const writer = new RecordBatchStreamWriter();
  const bytes = writer.toUint8Array();
  for (const columns of batches) {
    const data = Object.entries(types).map(([name, type]) => vectorFromArray(columns[name], type).data[0]);
    const length = data[0].length;
    writer.write(new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, nullCount: 0, children: data })));
  }
  writer.finish();
  return bytes.then((b) => writeFileSync(path, b));
}

const symbols = new Dictionary(new Utf8(), new Int32(), 1);
const minute = (s) => Date.parse(s);

if (process.argv[2] === "write") {
  await stream("bars.arrows", {
    Ticker: symbols, "bar size": new Utf8(), ts: new TimestampMillisecond("America/New_York"),
    Open: new Float64(), High: new Float32(), Low: new Float64(), Close: new Float64(),
    Volume: new Int64(), halted: new Bool(),
  }, [
    {
      Ticker: ["msft", "AAPL", "msft"], "bar size": ["1 min", "1 min", "daily"],
      ts: [minute("2024-03-08T14:30:00Z"), minute("2024-03-08T14:30:00.250Z"), minute("2024-03-09T02:00:00Z")],
      Open: [408.25, null, 407.5], High: [408.5, 170.5, 410.25], Low: [408, 169.75, 405.125], Close: [408.1, 170.03, 406.22],
      Volume: [120n, 3000000001n, null], halted: [false, null, true],
    },
    {
      Ticker: ["AAPL", "AAPL"], "bar size": ["1 min", "1 minute"],
      ts: [minute("2024-03-11T13:30:00Z"), null],
      Open: [171, 1], High: [172.5, 1], Low: [170.5, 1], Close: [null, 1],
      Volume: [5n, 1n], halted: [false, false],
    },
  ]);
  await stream("news.arrows", {
    vendor: new Utf8(), id: new Utf8(), published_at: new TimestampMicrosecond(null), headline: new Utf8(),
    tickers: new List(new Field("item", new Utf8(), true)), sentiment: new Float32(),
  }, [
    {
      vendor: ["IBKR", "IBKR"], id: ["BRFG$1", "BRFG$2"],
      published_at: [minute("2020-03-05T23:02:41.5Z"), minute("2020-03-06T00:00:00Z")],
      headline: ["Grüße, \"Welt\"", "贵州茅台"], tickers: [["aapl", "MSFT"], []], sentiment: [-0.5, null],
    },
  ]);
} else {
  const table = tableFromIPC(readFileSync(process.argv[3]));
  console.log(table.schema.fields.map((f) => `${f.name}: ${f.type}${f.nullable ? "?" : ""}`).join(", "));
  for (const row of table) {
    console.log(JSON.stringify(row, (_, v) => (typeof v === "bigint" ? v.toString() : v)));
  }
}
