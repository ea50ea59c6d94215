#!/usr/bin/env bash
# Two hosts for real: two network namespaces with the addresses of configs/two_hosts.json, each with a folder of its own
# and half of the days, and the commands of README.md, "Several hosts", typed in both. Then what may go wrong between hosts.
#
#   tests/two_hosts.sh [FOLDER WITH overlay AND overlay-ingest]        default: target/debug
#
# Needs root and `ip`; without them it says so and exits with 0. Leaves nothing behind.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
programs=$(cd "${1:-$project/target/debug}" && pwd)
first=oh2 second=oh1 # 192.168.1.2 has the Leader

if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! ip netns list >/dev/null 2>&1 || ! unshare --net true 2>/dev/null; then
    echo "left out: two hosts need root, ip and network namespaces"
    exit 0
fi

place=$(mktemp -d)
clean_up() {
    local code=$? host pid
    trap - EXIT
    if [ $code != 0 ]; then
        echo "FAILED (exit $code)"
        tail -n 5 "$place"/*/logs/*.log 2>/dev/null || true
    fi
    for host in oh1 oh2; do
        for pid in $(ip netns pids "$host" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "$host" 2>/dev/null || true
    done
    rm -rf "$place"
    exit $code
}
trap clean_up EXIT
trap 'exit 130' INT TERM

ip netns del oh1 2>/dev/null || true
ip netns del oh2 2>/dev/null || true
ip netns add oh1
ip netns add oh2
ip link add veth0 netns oh1 type veth peer name veth0 netns oh2
for host in oh1:192.168.1.1 oh2:192.168.1.2; do
    ip -n "${host%:*}" address add "${host#*:}/24" dev veth0
    ip -n "${host%:*}" link set veth0 up
    ip -n "${host%:*}" link set lo up
done

# Runs a command line on a host, in its folder.
on() {
    local host=$1
    shift
    ip netns exec "$host" env -C "$place/$host" PATH="$programs:$PATH" OVERLAY_CONFIG=configs/two_hosts.json bash -c "$*"
}

# Runs one and checks its exit code and that its output, stderr too, says some words.
check() {
    local host=$1 wanted=$2 line=$3 code=0 word
    shift 3
    said=$(on "$host" "$line" 2>&1) || code=$?
    printf '%s $ %s\n' "$host" "$line"
    [ "$code" = "$wanted" ] || { printf '%s\nexit %s, not %s\n' "$said" "$code" "$wanted"; exit 1; }
    for word in "$@"; do
        grep -qF -- "$word" <<<"$said" || { printf '%s\nit does not say: %s\n' "$said" "$word"; exit 1; }
    done
}

# The lines of one block of README.md, "Several hosts".
readme() {
    awk -v wanted="$1" '/^## /{here = /^## Several hosts/} here && /^```/{inside = !inside; block += inside; next}
        here && inside && block == wanted' "$project/README.md"
}

same() { [ "$1" = "$2" ] || { echo "$3: $1, expected $2"; exit 1; }; }

# The data of both, and what the text of each half says.
"$programs/overlay-ingest" generate "$place/all" --days 20 --sites 30 --seed 4
for host in oh1 oh2; do
    mkdir -p "$place/$host/configs" "$place/$host/datasets"
    cp "$project/configs/two_hosts.json" "$place/$host/configs/"
    cp -r "$place/all" "$place/$host/datasets/2020-fire"
done
mapfile -t halves < <(readme 1)
on $first "${halves[0]}"
on $second "${halves[1]}"
lines_of() { cat "$place/$1"/data/*/*.csv | wc -l; }
all=$(lines_of all) first_half=$(lines_of $first/datasets/2020-fire) second_half=$(lines_of $second/datasets/2020-fire)
same $((first_half + second_half)) "$all" "the halves together"
asked=$(cat "$place"/all/data/*/*.csv | grep -c '"PM2.5"')
printf '%s rows: %s on %s, %s on %s\n' "$all" "$first_half" $first "$second_half" $second

# Before anything runs: nothing is wrong, and it says what there is to do. A cache is missing, which costs time only.
check $first 0 "overlay doctor" "192.168.1.2:60051 is free" "no cache: every start parses" \
    "C E F do not run: 192.168.1.1 is there, and nothing listens at TCP 60053 60055 60056" "type it on 192.168.1.1: overlay"

# The first host alone.
while read -r line; do check $first 0 "$line"; done < <(readme 2)
grep -qF "not there yet: C E F on 192.168.1.1; start them there: overlay" <<<"$said" || { echo "$said"; exit 1; }
check $first 1 "overlay status" "host 192.168.1.1: C E F; 0 of 3 ready" "not complete"
check $first 1 "overlay query --quiet" "C, E, F" "hint: "
check $first 4 "overlay logs C" "C on 192.168.1.1 cannot be reached"
check $first 2 "overlay up --only C" "C belongs on 192.168.1.1, which is not this machine"
check $first 2 "overlay down --only C" "C belongs on 192.168.1.1, which is not this machine"

# Both.
while read -r line; do check $second 0 "$line"; done < <(readme 2)
for host in $first $second; do
    check $host 0 "overlay status --wait 30" "host 192.168.1.1: C E F; 3 of 3 ready" "; complete"
    check $host 0 "overlay doctor" "live both ways: A–B A–E B–C B–D D–E E–F" "0 warnings, 0 problems" "this host (within"
    check $host 0 "overlay query --format csv -o rows.csv" "A → B → C" "A → E → F"
    same $(($(wc -l <"$place/$host/rows.csv") - 1)) "$all" "rows asked from $host"
    check $host 0 "overlay query PM2.5 --format csv -o rows.csv"
    same $(($(wc -l <"$place/$host/rows.csv") - 1)) "$asked" "rows of PM2.5 asked from $host"
    check $host 0 "overlay query PM2.5 5 35 --limit 5" "5 rows"
    check $host 0 "overlay logs C" "ready"
    check $host 0 "overlay logs A --lines 3"
    check $host 130 "timeout --preserve-status -s INT 2 overlay logs A --follow" "serving"
done
held() { on $first "overlay partitions --format csv" | awk -F, -v who="$1" 'index(who, $6) {print $1}' | sort | tr '\n' ' '; }
same "$(held BD)" "$(on $first 'ls datasets/2020-fire/data' | tr '\n' ' ')" "days held on $first"
same "$(held CEF)" "$(on $second 'ls datasets/2020-fire/data' | tr '\n' ' ')" "days held on $second"

# The second host loses its power: an honest refusal, or its days named as missing.
for pid in $(ip netns pids $second); do kill -9 "$pid"; done
check $first 1 "overlay query --quiet" "hint: start the missing nodes"
check $first 3 "overlay query --allow-partial --format csv -o rows.csv" "PARTIAL" "missing: C" "missing: E"
same $(($(wc -l <"$place/$first/rows.csv") - 1)) "$first_half" "rows of $first alone"
check $first 1 "overlay doctor" "C E F do not run" "nobody alive holds 10 of 20 days" "last held by C E F"
check $second 0 "overlay logs C" "C does not run; this is what it wrote last to logs/C.log"
check $second 0 "overlay up --detach"
check $first 0 "overlay status --wait 30"
check $first 0 "overlay query --format csv -o rows.csv"
same $(($(wc -l <"$place/$first/rows.csv") - 1)) "$all" "rows after the second host is back"

# The cable is pulled, and put back.
ip -n $second link set veth0 down
check $first 1 "overlay query --timeout 10 --quiet" "error: "
check $first 1 "overlay doctor" "C E F on 192.168.1.1: no answer within 2 s" "is 192.168.1.1 up"
ip -n $second link set veth0 up
check $first 0 "overlay status --wait 60"
check $second 0 "overlay query --format csv -o rows.csv"
same $(($(wc -l <"$place/$second/rows.csv") - 1)) "$all" "rows after the cable is back"

# One host with its cache alone, the other with its CSV files alone: the same partitions, the same rows.
ids() { on $first "overlay partitions --format csv" | cut -d, -f1-5 | sort; }
before=$(ids)
check $first 0 "overlay down"
check $second 0 "overlay down"
on $first "rm -r datasets/2020-fire/data"
on $second "rm -r datasets/2020-fire/.overlay"
check $first 0 "overlay up --detach"
check $second 0 "overlay up --detach"
check $first 0 "overlay status --wait 30"
same "$(ids)" "$before" "partitions"
check $first 0 "overlay query --format csv -o rows.csv"
same $(($(wc -l <"$place/$first/rows.csv") - 1)) "$all" "rows of a cache here and CSV files there"
check $first 0 "overlay doctor" "from the cache datasets/2020-fire/.overlay alone" "rows from CSV" "rows from cache without CSV"
check $second 0 "overlay logs C" "no cache in datasets/2020-fire/.overlay: the CSV files are parsed"

check $second 0 "overlay down" "C ended" "E ended" "F ended"
check $first 0 "overlay down" "A ended" "B ended" "D ended"
same "$(ip netns pids oh1)$(ip netns pids oh2)" "" "processes left"
echo "two hosts: all as it should be"
