// Writes polars-*.arrows: large texts and categories, uncompressed and compressed.
//
//	npm install nodejs-polars@0.25.2
//	node polars.cjs
const pl = require("nodejs-polars");
const { writeFileSync } = require("node:fs");

const frame = pl.DataFrame({
  symbol: ["A-SYMBOL-LONGER-THAN-A-VIEW", "MSFT", null, "MSFT"],
  timeframe: ["1d", "1m", "1m", "1d"],
  ts: ["2024-03-08T00:00:00Z", "2024-03-08T14:30:00Z", "2024-03-08T14:31:00Z", "2024-03-11T00:00:00Z"].map((t) => new Date(t)),
  close: [1.5, 2.25, 3.5, NaN],
  volume: [1, null, 3, 4],
}, {
  schema: { symbol: pl.Utf8, timeframe: pl.Categorical, ts: pl.Datetime("ms"), close: pl.Float64, volume: pl.Int64 },
});
for (const compression of ["uncompressed", "lz4", "zstd"]) {
  writeFileSync(`polars-${compression}.arrows`, frame.writeIPCStream({ compression }));
}
