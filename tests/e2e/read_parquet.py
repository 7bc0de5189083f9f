"""Reads exported Parquet with pandas and with DuckDB and prints what both saw.

usage: read_parquet.py FILE...
Prints one JSON object a file: rows, distinct rows, columns with their types, sums that both agree on.
"""

import json
import sys

import duckdb
import pandas

for path in sys.argv[1:]:
    frame = pandas.read_parquet(path)
    rows, distinct = duckdb.sql(
        f"select count(*), count(distinct (box, stream, batch_seq)) from '{path}'"
    ).fetchall()[0]
    total = duckdb.sql(f"select coalesce(sum(value_f64), 0) from '{path}'").fetchall()[0][0]
    assert len(frame) == rows, (path, len(frame), rows)
    assert abs(float(frame["value_f64"].sum()) - total) < 1e-6 * max(1.0, abs(total)), path
    print(
        json.dumps(
            {
                "path": path,
                "rows": rows,
                "batches": distinct,
                "sum_f64": total,
                "gateway_time": str(frame["gateway_time"].dtype),
                "quality": str(frame["quality"].dtype),
                "columns": list(frame.columns),
            }
        )
    )
