#!/usr/bin/env python3
"""Overlay beside the engines that one would take instead, on the same files in the same run.

    python3 -m pip install -r benches/requirements.txt
    cargo build --profile dist
    python3 benches/peers.py datasets/2020-fire --overlay target/dist/overlay --rounds 7

How it is made fair:
- Everybody reads the same CSV files with declared types, and the same Parquet file: sorted by parameter and time, zstd.
- Everybody has as many threads as --threads says (default 2; the rest of the machine should be quiet).
- Every round asks for another range and another point, drawn from --seed, and goes through all engines in turn, so that
  a machine that slows down slows down everybody. Round 0 warms up and is not counted.
- An engine's time counts only if its answer equals that of DuckDB on the same round: rows, and for rows that are handed
  out also the sum of the concentrations in tenths.
- Ours is `overlay bench engine`, a new process each round; what it measures is said in its source, src/cli/bench/.

Printed: medians in milliseconds, the spread (least to greatest), and ratio = best peer / ours.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

THREADS = 2
FLOATS = ("latitude", "longitude", "concentration", "raw_concentration")
SMALL = ("aqi", "category")
COLUMNS = (
    "latitude longitude utc parameter concentration unit raw_concentration aqi category site_name agency aqs_id "
    "full_aqs_id"
).split()
MAY_BE_MISSING = ("concentration", "raw_concentration", "aqi", "category")
# Per parameter where its values mostly lie.
SPANS = {"PM2.5": (0, 60), "PM10": (0, 120), "OZONE": (5, 70), "NO2": (0, 40)}

# SQL that groups, joins and sorts, over the table in memory; of these the numbers of rows are compared.
STATEMENTS = {
    "by parameter": "SELECT parameter, count(*), avg(concentration) FROM {table} GROUP BY parameter",
    "by site": "SELECT full_aqs_id, max(concentration) FROM {table} WHERE parameter = 'PM2.5' GROUP BY full_aqs_id",
    "by hour": "SELECT date_trunc('hour', utc) AS hour, avg(aqi) FROM {table} GROUP BY hour ORDER BY hour",
    "top sites": "SELECT full_aqs_id, site_name, avg(concentration) AS mean FROM {table} WHERE parameter = 'OZONE' "
    "GROUP BY full_aqs_id, site_name ORDER BY mean DESC LIMIT 10",
    "join": "SELECT p.full_aqs_id, count(*) FROM {table} p JOIN {table} o ON o.full_aqs_id = p.full_aqs_id "
    "AND o.utc = p.utc WHERE p.parameter = 'PM2.5' AND o.parameter = 'OZONE' AND p.concentration > 100 "
    "GROUP BY p.full_aqs_id",
}


def condition(question):
    name, low, high = question
    return f"parameter = '{name}' AND concentration BETWEEN {low} AND {high}"


class DuckDb:
    """Also the one that says what is right."""

    name = "duckdb"

    def __init__(self, csv, parquet):
        import duckdb

        self.module, self.csv, self.parquet = duckdb, csv, parquet
        self.held = self.connect()

    def connect(self):
        return self.module.connect(config={"threads": THREADS})

    def csv_rows(self):
        kinds = {c: "DOUBLE" if c in FLOATS else "SMALLINT" if c in SMALL else "VARCHAR" for c in COLUMNS}
        kinds["utc"] = "TIMESTAMP"
        columns = ", ".join(f"'{c}': '{kind}'" for c, kind in kinds.items())
        missing = ", ".join(f"NULLIF({c}, -999) AS {c}" for c in MAY_BE_MISSING)
        return (
            f"SELECT * REPLACE ({missing}) FROM read_csv('{self.csv}', header = false, quote = '\"', "
            f"timestampformat = '%Y-%m-%dT%H:%M', columns = {{{columns}}})"
        )

    def write(self, path):
        order = "ORDER BY parameter, utc"
        self.connect().execute(f"COPY ({self.csv_rows()} {order}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")

    def load(self):
        self.held.execute(f"CREATE TABLE o AS SELECT * FROM '{self.parquet}'")

    def truth(self, where="true"):
        sums = "count(*), coalesce(cast(sum(round(concentration * 10)) AS BIGINT), 0)"
        return self.held.cursor().execute(f"SELECT {sums} FROM o WHERE {where}").fetchone()

    def csv_to_memory(self):
        connection = self.connect()
        connection.execute(f"CREATE TABLE t AS {self.csv_rows()}")
        return connection.execute("SELECT count(*) FROM t").fetchone()[0]

    def csv_to_parquet(self, folder):
        self.write(f"{folder}/duckdb.parquet")

    def cold_count(self, question):
        rows = self.connect().execute(f"SELECT count(*) FROM '{self.parquet}' WHERE {condition(question)}")
        return rows.fetchone()[0]

    def warm_count(self, question):
        return self.held.cursor().execute(f"SELECT count(*) FROM o WHERE {condition(question)}").fetchone()[0]

    def warm_sql(self, statement):
        return self.held.cursor().sql(statement.format(table="o")).to_arrow_table().num_rows

    def warm_rows(self, question):
        return self.held.cursor().sql(f"SELECT * FROM o WHERE {condition(question)}").to_arrow_table().num_rows


class Polars:
    name = "polars"

    def __init__(self, csv, parquet):
        import polars

        self.pl, self.csv, self.parquet = polars, csv, parquet

    def csv_rows(self):
        pl = self.pl
        kinds = {c: pl.Float64 if c in FLOATS else pl.Int16 if c in SMALL else pl.String for c in COLUMNS}
        missing = [pl.when(pl.col(c) != -999).then(pl.col(c)).alias(c) for c in MAY_BE_MISSING]
        rows = pl.scan_csv(self.csv, has_header=False, schema=kinds)
        return rows.with_columns(pl.col("utc").str.to_datetime("%Y-%m-%dT%H:%M"), *missing)

    def load(self):
        self.held = self.pl.read_parquet(self.parquet)

    def matches(self, question):
        name, low, high = question
        return (self.pl.col("parameter") == name) & self.pl.col("concentration").is_between(low, high)

    def csv_to_memory(self):
        return self.csv_rows().collect().height

    def csv_to_parquet(self, folder):
        self.csv_rows().sort("parameter", "utc").sink_parquet(f"{folder}/polars.parquet", compression="zstd")

    def cold_count(self, question):
        rows = self.pl.scan_parquet(self.parquet).filter(self.matches(question))
        return rows.select(self.pl.len()).collect().item()

    def warm_count(self, question):
        return self.held.lazy().filter(self.matches(question)).select(self.pl.len()).collect().item()

    def warm_rows(self, question):
        return self.held.lazy().filter(self.matches(question)).collect().height


class StockDataFusion:
    name = "datafusion"

    def __init__(self, _csv, parquet):
        import datafusion

        self.module, self.parquet = datafusion, parquet

    def context(self):
        context = self.module.SessionContext(self.module.SessionConfig().with_target_partitions(THREADS))
        context.register_parquet("p", self.parquet)
        return context

    def load(self):
        self.held = self.context()
        self.held.register_record_batches("o", [self.held.sql("SELECT * FROM p").collect()])

    def count(self, context, table, question):
        batches = context.sql(f"SELECT count(*) FROM {table} WHERE {condition(question)}").collect()
        return batches[0].column(0)[0].as_py()

    def cold_count(self, question):
        return self.count(self.context(), "p", question)

    def warm_count(self, question):
        return self.count(self.held, "o", question)

    def warm_sql(self, statement):
        return sum(b.num_rows for b in self.held.sql(statement.format(table="o")).collect())

    def warm_rows(self, question):
        return sum(b.num_rows for b in self.held.sql(f"SELECT * FROM o WHERE {condition(question)}").collect())


class ClickHouse:
    name = "clickhouse"

    def __init__(self, _csv, parquet):
        from chdb import session

        self.parquet, self.held = parquet, session.Session()

    def ask(self, text):
        return str(self.held.query(f"{text} SETTINGS max_threads = {THREADS}")).strip()

    def load(self):
        self.held.query("CREATE DATABASE d")
        self.held.query(f"CREATE TABLE d.o ENGINE = Memory AS SELECT * FROM file('{self.parquet}', Parquet)")

    def warm_count(self, question):
        return int(self.ask(f"SELECT count() FROM d.o WHERE {condition(question)}"))


FLIGHT_SERVER = """
import sys, duckdb, pyarrow.flight as flight
engine = duckdb.connect(config={"threads": int(sys.argv[2])})
engine.execute(f"CREATE TABLE o AS SELECT * FROM '{sys.argv[1]}'")
class Server(flight.FlightServerBase):
    computed = (None, None)
    def do_get(self, context, ticket):
        kind, text = ticket.ticket.decode().split(" ", 1)
        if kind == "again":
            assert Server.computed[0] == text, "rows that were not asked for before"
            return flight.RecordBatchStream(Server.computed[1])
        table = engine.cursor().sql(text).to_arrow_table()
        Server.computed = (text, table)
        return flight.RecordBatchStream(table)
server = Server("grpc://127.0.0.1:0")
print(server.port, flush=True)
server.serve()
"""


class Flight:
    """Arrow Flight in C++ with DuckDB behind it, in a process of its own; and again with the rows already computed."""

    def __init__(self, parquet):
        import pyarrow.flight

        self.flight = pyarrow.flight
        command = [sys.executable, "-c", FLIGHT_SERVER, parquet, str(THREADS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.client = self.flight.connect(f"grpc://127.0.0.1:{self.process.stdout.readline().strip()}")

    def get(self, kind, text):
        return self.client.do_get(self.flight.Ticket(f"{kind} {text}".encode())).read_all().num_rows

    def end(self):
        self.process.terminate()
        self.process.wait()


class Times:
    def __init__(self):
        self.of = {}

    def take(self, workload, who, expected, call, counts):
        start = time.perf_counter()
        got = call()
        ms = (time.perf_counter() - start) * 1e3
        if expected is not None and got != expected:
            sys.exit(f"{workload}: {who} answered {got}, expected {expected}")
        if counts:
            self.of.setdefault(workload, {}).setdefault(who, []).append(ms)


def ours(binary, dataset, question, point):
    command = [binary, "bench", "engine", "--dataset", dataset, "--json"]
    command += ["--range", ",".join(map(str, question)), "--point", ",".join(point)]
    command += ["--sql=" + statement.format(table="observations") for statement in STATEMENTS.values()]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def check_ours(said, duck, all_rows, all_tenths, wanted):
    """Whether our answers are right; what is wrong, in words."""
    rows, tenths = wanted
    expected = {name: (rows, None) for name in ("cold_count", "warm_count", "warm_count_scan")}
    expected |= {name: (rows, tenths) for name in ("warm_rows", "remote_rows")}
    expected |= {"csv_to_memory": (all_rows, all_tenths), "csv_to_parquet": (all_rows, None), "remote_point": (1, None)}
    for name, (rows, tenths) in expected.items():
        answer = said.get(name)
        if answer is None:
            continue
        if answer["rows"] != rows or (tenths is not None and answer.get("tenths") != tenths):
            sys.exit(f"{name}: ours answered {answer}, expected {rows} rows and {tenths} tenths")
    files = [str(path) for path in pathlib.Path(said["csv_to_parquet"]["path"]).glob("**/*.parquet")]
    sums = "count(*), cast(sum(round(concentration * 10)) AS BIGINT)"
    back = duck.held.cursor().execute(f"SELECT {sums} FROM read_parquet({files})").fetchone()
    if back != (all_rows, all_tenths):
        sys.exit(f"csv_to_parquet: our files hold {back}, expected {(all_rows, all_tenths)}")
    return sum(os.path.getsize(path) for path in files)


def main():
    global THREADS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--overlay", default="target/dist/overlay", help="our program (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    THREADS = arguments.threads
    # Polars reads it when it is first imported.
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="overlay-peers-") as folder:
        csv, parquet = f"{arguments.dataset.rstrip('/')}/data/*/*.csv", f"{folder}/all.parquet"
        duck = DuckDb(csv, parquet)
        duck.write(parquet)
        engines = [duck, Polars(csv, parquet), StockDataFusion(csv, parquet), ClickHouse(csv, parquet)]
        for engine in engines:
            engine.load()
        flight = Flight(parquet)
        try:
            times, sizes = measure(arguments, dice, folder, duck, engines, flight)
        finally:
            flight.end()
    show(arguments, times, sizes)


def measure(arguments, dice, folder, duck, engines, flight):
    times, sizes = Times(), {}
    all_rows, all_tenths = duck.truth()
    sample = "SELECT full_aqs_id, parameter, strftime(utc, '%Y-%m-%dT%H:%M:%S') FROM o USING SAMPLE 99 ROWS (reservoir, 7)"
    points = duck.held.execute(sample).fetchall()
    for turn in range(arguments.rounds + 1):
        name = dice.choice(sorted(SPANS)) if turn % 2 == 0 else "PM2.5"
        low, high = sorted(round(dice.uniform(*SPANS[name]), 1) for _ in range(2))
        question, point = (name, low, round(high + 4, 1)), dice.choice(points)
        rows, tenths = duck.truth(condition(question))
        counts = turn > 0

        def run(workload, expected, *given):
            for engine in engines:
                call = getattr(engine, workload.removesuffix("_scan").split(" ")[0], None)
                if call:
                    times.take(workload, engine.name, expected, lambda: call(*given), counts)

        run("csv_to_memory", all_rows)
        run("csv_to_parquet", None, folder)
        for workload in ("cold_count", "warm_count", "warm_count_scan", "warm_rows"):
            run(workload, rows, question)
        of_statement = {name: duck.warm_sql(statement) for name, statement in STATEMENTS.items()}
        for name, statement in STATEMENTS.items():
            run(f"warm_sql {name}", of_statement[name], statement)
        text = f"SELECT * FROM o WHERE {condition(question)}"
        times.take("remote_rows", "flight+duckdb", rows, lambda: flight.get("ask", text), counts)
        times.take("remote_rows", "flight, rows ready", rows, lambda: flight.get("again", text), counts)
        one = f"SELECT * FROM o WHERE full_aqs_id = '{point[0]}' AND parameter = '{point[1]}' AND utc = '{point[2]}'"
        times.take("remote_point", "flight+duckdb", 1, lambda: flight.get("ask", one), counts)

        said = ours(arguments.overlay, arguments.dataset, question, point)
        sizes["ours, Parquet bytes"] = check_ours(said, duck, all_rows, all_tenths, (rows, tenths))
        sizes["ours, resident bytes per row"] = said.pop("resident_bytes_per_row", None)
        for (name, expected), answer in zip(of_statement.items(), said.pop("warm_sql")):
            if answer["rows"] != expected:
                sys.exit(f"warm_sql {name}: ours answered {answer['rows']} rows, expected {expected}")
            said[f"warm_sql {name}"] = answer
        for workload, answer in said.items():
            if counts:
                times.of.setdefault(workload, {}).setdefault("ours", []).append(answer["ms"])
    for peer in ("duckdb", "polars"):
        sizes[f"{peer}, Parquet bytes"] = os.path.getsize(f"{folder}/{peer}.parquet")
    used = duck.held.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchone()[0]
    sizes["duckdb, bytes in memory per row"] = round(used / all_rows)
    polars = next(engine for engine in engines if engine.name == "polars")
    sizes["polars, bytes in memory per row"] = round(polars.held.estimated_size() / all_rows)
    return times, sizes


def show(arguments, times, sizes):
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "polars", "datafusion", "chdb", "pyarrow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads each; {versions}; seed {arguments.seed}")
    for workload, of in times.of.items():
        print(f"\n{workload}")
        best = min((statistics.median(ms) for who, ms in of.items() if who != "ours"), default=None)
        for who, ms in sorted(of.items(), key=lambda item: statistics.median(item[1])):
            middle = statistics.median(ms)
            ratio = f"   {best / middle:.2f}x the best peer" if who == "ours" and best else ""
            print(f"  {who:20s} {middle:10.2f} ms   ({min(ms):.2f} to {max(ms):.2f}){ratio}")
    print()
    for what, value in sizes.items():
        print(f"{what}: {value}")


if __name__ == "__main__":
    main()
