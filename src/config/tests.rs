use super::*;

const ONE_HOST: &str = include_str!("../../configs/one_host.json");

pub(super) fn load(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    Config::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn links(config: &Config) -> String {
    config.links().links().map(|link| link.to_string()).collect::<Vec<_>>().join(" ")
}

/// `"A leader green 127.0.0.1:60051"`, and `data` if it holds any.
fn processes(config: &Config) -> Vec<String> {
    let data = |process: &ProcessConfig| if process.holds_data { " data" } else { "" };
    let line = |p: &ProcessConfig| format!("{} {} {} {}:{}{}", p.id, p.role, p.team, p.host, p.port, data(p));
    config.processes.values().map(line).collect()
}

#[test]
fn shipped_files_describe_the_documented_clusters() {
    let one = load("one_host.json");
    assert_eq!(links(&one), "A-B A-E B-C B-D D-E E-F");
    assert_eq!(
        processes(&one),
        [
            "A leader green 127.0.0.1:60051",
            "B team_leader green 127.0.0.1:60052 data",
            "C worker green 127.0.0.1:60053 data",
            "D worker pink 127.0.0.1:60054 data",
            "E team_leader pink 127.0.0.1:60055 data",
            "F worker pink 127.0.0.1:60056 data",
        ]
    );
    let two = load("two_hosts.json");
    assert_eq!(links(&two), links(&one));
    let on = |host: &str| two.processes.values().filter(|p| p.host == host).map(|p| p.id.as_str()).collect::<String>();
    assert_eq!((on("192.168.1.2"), on("192.168.1.1")), ("ABD".to_string(), "CEF".to_string()));
    assert_eq!(Fingerprint::of(&one, 1, 1, "s"), Fingerprint::of(&two, 1, 1, "s"), "only addresses differ");
    let five = load("five_process.json");
    assert_eq!(links(&five), "A-B B-C B-D C-E D-E");
    assert_eq!(
        processes(&five),
        [
            "A leader all 127.0.0.1:50051",
            "B team_leader all 127.0.0.1:50052 data",
            "C worker all 127.0.0.1:50053 data",
            "D worker all 127.0.0.1:50054 data",
            "E worker all 127.0.0.1:50055 data",
        ]
    );
    let embedded = load("embedded.json");
    assert_eq!(links(&embedded), "");
    assert_eq!(processes(&embedded), ["A leader all 127.0.0.1:50061 data"]);
    for config in [one, two, five, embedded] {
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        assert_eq!(config.leader().id.as_str(), "A");
        let strategies = &config.strategies;
        assert_eq!((strategies.forwarding_strategy.as_str(), strategies.async_forwarding), ("parallel", true));
        assert_eq!((strategies.chunking_strategy.as_str(), strategies.chunk_size), ("adaptive", 200));
        assert_eq!(strategies.fairness_strategy, "fair_queue");
        assert_eq!(config.dataset.root, Path::new("datasets/2020-fire"));
        for day in ["20200810", "20200924"] {
            assert!(config.team_of_date(day.parse().unwrap()).is_some());
        }
        for day in ["20200809", "20200925"] {
            assert!(config.team_of_date(day.parse().unwrap()).is_none());
        }
    }
}

#[test]
fn teams_own_their_days_and_members() {
    let config = load("one_host.json");
    let team = |day: &str| config.team_of_date(day.parse().unwrap()).map(Team::as_str);
    assert_eq!((team("20200820"), team("20200821")), (Some("green"), Some("pink")));
    assert_eq!(config.data_members(&"green".into()), ["B", "C"].map(NodeId::from));
    assert_eq!(config.data_members(&"pink".into()), ["D", "E", "F"].map(NodeId::from));
    let held: String = config.all_data_members().iter().map(|(id, team)| format!("{id}={team} ")).collect();
    assert_eq!(held, "B=green C=green D=pink E=pink F=pink ");
    assert_eq!(Some(config.team_ranges()[&"pink".into()]), config.teams[&"pink".into()].range);
    assert_eq!(config.process(&"E".into()).unwrap().role, Role::TeamLeader);
    assert!(config.process(&"X".into()).is_none());
}

#[test]
fn a_team_without_days_is_only_billed() {
    let billed =
        |team: &str| Config::parse(ONE_HOST.replacen(r#""teams": {"#, &format!(r#""teams": {{ {team},"#), 1), "f");
    let config = billed(r#""guests": { "weight": 3 }"#).unwrap();
    let guests = config.teams[&"guests".into()];
    assert_eq!((guests.range, guests.weight), (None, 3));
    assert_eq!(config.team_ranges().len(), 2, "it owns nothing");
    assert!(!config.warnings().iter().any(|warning| warning.contains("guests")), "and nobody need hold it");
    let of = |config: &Config| Fingerprint::of(config, 1, 1, "schema");
    assert_eq!(of(&config), of(&load("one_host.json")), "hosts may differ on it");
    check(r#""teams": {"#, r#""teams": { "guests": { "from": "20300101" },"#, "teams.guests.to", "is missing");
    check(
        r#""teams": {"#,
        r#""teams": { "guests": { "form": "20300101" },"#,
        "teams.guests.form",
        "did you mean from?",
    );
    let text = ONE_HOST.replacen(r#""teams": {"#, r#""teams": { "guests": {},"#, 1);
    let moved = text.replacen(
        r#""id": "F", "role": "worker", "team": "pink""#,
        r#""id": "F", "role": "worker", "team": "guests""#,
        1,
    );
    let told = Config::parse(moved, "f").unwrap_err().to_string();
    assert!(told.contains("processes.F.team: team guests has no days; give teams.guests from and to"), "{told}");
}

#[test]
fn keys_left_out_have_the_defaults_of_the_earlier_systems() {
    let text = r#"{
        "dataset": { "name": "d", "root": "data" },
        "teams": { "t": { "from": "20200101", "to": "20200101" } },
        "processes": { "A": { "id": "A", "role": "leader", "team": "t", "host": "h", "port": 0, "neighbors": [],
                              "holds_data": true } } }"#;
    let config = Config::parse(text, "small").unwrap();
    let strategies = StrategyConfig {
        forwarding_strategy: "round_robin".into(),
        async_forwarding: false,
        chunking_strategy: "fixed".into(),
        fairness_strategy: "strict".into(),
        chunk_size: 200,
    };
    let limits = Limits {
        queue_capacity: 200,
        concurrent_max: 100,
        team_concurrent_max: 60,
        result_ttl_s: 300,
        result_bytes_max: 512 << 20,
        result_disk_bytes_max: 4 << 30,
        data_bytes_max: 8 << 30,
        memory_bytes_max: 2 << 30,
        chunk_rows_max: 65_536,
        deadline_s: 60,
        idle_s: 30,
        threads: 0,
    };
    assert_eq!((&config.strategies, &config.limits), (&strategies, &limits));
    assert_eq!(
        (config.dataset.table.as_str(), config.dataset.cache.as_path()),
        ("observations", Path::new("data/.overlay"))
    );
    assert_eq!((config.replicas, config.adopt_links), (Replicas::Count(1), true));
    assert_eq!((config.state_dir.as_path(), config.teams[&"t".into()].weight), (Path::new(".overlay"), 1));
    let with = |key: &str| Config::parse(text.replacen('{', &format!("{{ {key},"), 1), "small").unwrap();
    assert_eq!(with(r#""replicas": "all""#).replicas, Replicas::All);
    assert_eq!(with(r#""limits": { "result_bytes_max": "3KiB" }"#).limits.result_bytes_max, 3072);
    assert_eq!(with(r#""limits": { "result_bytes_max": 77 }"#).limits.result_bytes_max, 77);
    for (written, bytes) in [("0", 0), (r#""0MiB""#, 0), (r#""1MiB""#, 1 << 20)] {
        let text = format!(r#""limits": {{ "result_disk_bytes_max": {written} }}"#);
        assert_eq!(with(&text).limits.result_disk_bytes_max, bytes, "{written}");
    }
    assert_eq!(with(r#""limits": { "concurrent_max": 10 }"#).limits.team_concurrent_max, 10);
    assert_eq!(with(r#""limits": { "chunk_rows_max": 50 }"#).strategies.chunk_size, 50);
}

/// `one_host.json` with one piece of text replaced has exactly one problem, at that path, saying those words.
fn check(written: &str, instead: &str, path: &str, words: &str) {
    assert!(ONE_HOST.contains(written), "{written} is not in one_host.json");
    match Config::parse(ONE_HOST.replacen(written, instead, 1), "f") {
        Err(ConfigError::Problems { problems, .. }) => {
            let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
            assert_eq!(problems.len(), 1, "{instead}: {told:#?}");
            assert_eq!(problems[0].path, path, "{instead}: {told:?}");
            assert!(told[0].contains(words), "{instead}: {:?} does not say {words:?}", told[0]);
        }
        other => panic!("{instead}: {other:?}"),
    }
}

#[test]
fn unknown_missing_and_repeated_keys_are_told_by_path() {
    check(
        r#""forwarding_strategy""#,
        r#""forwading_strategy""#,
        "strategies.forwading_strategy",
        "did you mean forwarding_strategy?",
    );
    check(r#""replicas""#, r#""replica""#, "replica", "unknown key; did you mean replicas?");
    check(r#""weight": 1"#, r#""wait": 1"#, "teams.green.wait", "unknown key");
    check(r#""threads""#, r#""zzz""#, "limits.zzz", "unknown key; there is queue_capacity, ");
    check(r#""table""#, r#""Table""#, "dataset.Table", "did you mean table?");
    check(
        r#""port": 60053,"#,
        r#""port": 60053, "holds_dat": true,"#,
        "processes.C.holds_dat",
        "did you mean holds_data?",
    );
    check(r#""id": "C", "#, "", "processes.C.id", "is missing");
    check(r#""role": "worker", "#, "", "processes.C.role", "is missing");
    check(r#""team": "green", "#, "", "processes.A.team", "is missing");
    check(r#""host": "127.0.0.1", "#, "", "processes.A.host", "is missing");
    check(r#""port": 60051, "#, "", "processes.A.port", "is missing");
    check(r#", "neighbors": ["B", "E"]"#, "", "processes.A.neighbors", "is missing");
    check(r#""name": "2020-fire","#, "", "dataset.name", "is missing");
    check(r#""root": "datasets/2020-fire","#, "", "dataset.root", "is missing");
    check(r#""from": "20200810", "#, "", "teams.green.from", "is missing");
    check(r#""threads": 0"#, r#""threads": 0, "threads": 1"#, "limits.threads", "given twice");
    check(r#""replicas": 1"#, r#""replicas": 1, "replicas": 1"#, "replicas", "given twice");
}

#[test]
fn wrong_values_are_told_with_what_would_be_right() {
    check(
        r#""forwarding_strategy": "parallel""#,
        r#""forwarding_strategy": "paralel""#,
        "strategies.forwarding_strategy",
        r#"one of round_robin, parallel, capacity (is "paralel"); did you mean parallel?"#,
    );
    check(r#""adaptive""#, r#""adaptiv""#, "strategies.chunking_strategy", "did you mean adaptive?");
    check(
        r#""fair_queue""#,
        "7",
        "strategies.fairness_strategy",
        "must be one of strict, weighted, hybrid, fair_queue, fifo (is 7)",
    );
    check(
        r#""async_forwarding": true"#,
        r#""async_forwarding": "true""#,
        "strategies.async_forwarding",
        "without quotes",
    );
    check(r#""chunk_size": 200"#, r#""chunk_size": 0"#, "strategies.chunk_size", "from 1 to 65536 (is 0)");
    check(r#""chunk_size": 200"#, r#""chunk_size": 65537"#, "strategies.chunk_size", "(is 65537)");
    check(r#""chunk_size": 200"#, r#""chunk_size": 1.5"#, "strategies.chunk_size", "(is 1.5)");
    check(r#""chunk_size": 200"#, r#""chunk_size": "200""#, "strategies.chunk_size", "without quotes");
    check(r#""chunk_rows_max": 65536"#, r#""chunk_rows_max": 100"#, "strategies.chunk_size", "from 1 to 100 (is 200)");
    check(r#""chunk_rows_max": 65536"#, r#""chunk_rows_max": 0"#, "limits.chunk_rows_max", "(is 0)");
    check(r#""queue_capacity": 200"#, r#""queue_capacity": 0"#, "limits.queue_capacity", "(is 0)");
    check(r#""queue_capacity": 200"#, r#""queue_capacity": -1"#, "limits.queue_capacity", "(is -1)");
    check(r#""concurrent_max": 100"#, r#""concurrent_max": 50"#, "limits.team_concurrent_max", "from 1 to 50 (is 60)");
    check(r#""team_concurrent_max": 60"#, r#""team_concurrent_max": 101"#, "limits.team_concurrent_max", "(is 101)");
    check(r#""result_ttl_s": 300"#, r#""result_ttl_s": null"#, "limits.result_ttl_s", "(is null)");
    check(r#""deadline_s": 60"#, r#""deadline_s": 99999999999999999999999"#, "limits.deadline_s", "from 1 to 86400");
    check(r#""512MiB""#, r#""512MB""#, "limits.result_bytes_max", r#"(is "512MB"); write 1048576, or "512MiB""#);
    check(r#""512MiB""#, r#""-1MiB""#, "limits.result_bytes_max", "a number of bytes");
    check(r#""8GiB""#, r#""99999999999999999GiB""#, "limits.data_bytes_max", "a number of bytes");
    check(r#""2GiB""#, "0", "limits.memory_bytes_max", "(is 0)");
    check(r#""replicas": 1"#, r#""replicas": 0"#, "replicas", r#"or "all" (is 0)"#);
    check(r#""replicas": 1"#, r#""replicas": "some""#, "replicas", r#"(is "some")"#);
    check(r#""adopt_links": true"#, r#""adopt_links": 1"#, "adopt_links", "true or false (is 1)");
    check(r#""state_dir": ".overlay""#, r#""state_dir": """#, "state_dir", "not empty");
    check(r#""name": "2020-fire""#, r#""name": "a/b""#, "dataset.name", r#"(is "a/b")"#);
    check(r#""observations""#, r#""Observations; drop""#, "dataset.table", "a lower-case letter");
    check(r#""20200810""#, r#""2020-08-10""#, "teams.green.from", r#"a date, as "20200810""#);
    check(r#""20200810""#, "20200810", "teams.green.from", "(is 20200810)");
    check(r#""20200820""#, r#""20200809""#, "teams.green.to", "20200809 < 20200810");
    check(r#""weight": 1"#, r#""weight": 0"#, "teams.green.weight", "(is 0)");
    check(r#""id": "A""#, r#""id": "Z""#, "processes.A.id", r#"must be the key of the process, "A" (is "Z")"#);
    check(r#""role": "leader""#, r#""role": "lead""#, "processes.A.role", "did you mean leader?");
    check(r#""port": 60051"#, r#""port": 65536"#, "processes.A.port", "(is 65536)");
    check(r#""port": 60051"#, r#""port": "60051""#, "processes.A.port", "without quotes");
    check(r#""host": "127.0.0.1""#, r#""host": """#, "processes.A.host", "not empty");
    check(r#""host": "127.0.0.1""#, r#""host": "http://a b""#, "processes.A.host", "a host name");
    check(r#""host": "127.0.0.1""#, r#""host": "0.0.0.0""#, "processes.A.host", "peers can dial");
    check(r#"["B", "E"]"#, r#""B""#, "processes.A.neighbors", "must be a list");
    check(r#"["B", "E"]"#, r#"["B", 5]"#, "processes.A.neighbors[1]", "(is 5)");
    check(
        r#""pink": { "from": "20200821", "to": "20200924", "weight": 1 }"#,
        r#""pink": []"#,
        "teams.pink",
        "must be an object, { … } (is a list)",
    );
}

#[test]
fn settings_that_do_not_fit_each_other_are_told_once() {
    check(r#""from": "20200821""#, r#""from": "20200820""#, "teams.pink", "shares days with green");
    check(r#""role": "leader""#, r#""role": "worker""#, "processes", "no process has the role leader");
    check(
        r#""role": "team_leader", "team": "green""#,
        r#""role": "leader", "team": "green", "holds_data": true"#,
        "processes.B.role",
        "A is the leader already",
    );
    check(
        r#""role": "worker", "team": "green""#,
        r#""role": "team_leader", "team": "green""#,
        "processes.C.role",
        "B is the team leader of green already",
    );
    check(
        r#""role": "worker", "team": "green""#,
        r#""role": "worker", "team": "gren""#,
        "processes.C.team",
        "there is no team gren; did you mean green?",
    );
    check(
        r#""teams": {"#,
        r#""teams": { "red": { "from": "20210101", "to": "20210101" },"#,
        "teams.red",
        "no process of the team holds data",
    );
    check(r#""port": 60052"#, r#""port": 60051"#, "processes.B.port", "A has the address 127.0.0.1:60051 already");
    check(r#"["B", "E"]"#, r#"["B", "E", "A"]"#, "processes.A.neighbors[2]", "not its own neighbor");
    check(r#"["B", "E"]"#, r#"["B", "E", "B"]"#, "processes.A.neighbors[2]", "B is listed twice");
    check(r#"["B", "E"]"#, r#"["B", "E", "X"]"#, "processes.A.neighbors[2]", "there is no process X");
    check(
        r#"["B", "E"]"#,
        r#"["B", "E", "F"]"#,
        "processes.A.neighbors[2]",
        r#"F does not list A; a link is listed at both ends: add "A" to processes.F.neighbors"#,
    );
    check(r#"["B", "E"]"#, r#"["B"]"#, "processes.E.neighbors[0]", "A does not list E");
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let broken = ONE_HOST
        .replace(r#""parallel""#, r#""paralel""#)
        .replace(r#""port": 60051"#, r#""port": 0.5"#)
        .replace(r#""threads": 0"#, r#""threads": 0, "thread": 1"#)
        .replace(r#"["E"]"#, "[]")
        .replace(r#"["A", "F", "D"]"#, r#"["A", "D"]"#);
    let error = Config::parse(&broken, "configs/x.json").unwrap_err();
    let paths: Vec<&str> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["limits.thread", "strategies.forwarding_strategy", "processes.A.port", "processes"]);
    let text = error.to_string();
    assert!(
        text.starts_with("configs/x.json: 4 problems\n  limits.thread: unknown key; did you mean threads?"),
        "{text}"
    );
    assert!(text.contains("falls apart into A B C D E | F"), "{text}");
    let upper = ONE_HOST.replace(r#""C""#, r#""b""#);
    let error = Config::parse(&upper, "f").unwrap_err().to_string();
    assert!(error.contains("processes.b: differs from B in case only"), "{error}");
    let none = Config::parse(ONE_HOST.replace(r#""green""#, r#""none""#), "f").unwrap_err();
    assert!(
        none.to_string().ends_with("teams.none: no team can be called none; it is what unbilled queries are"),
        "{none}"
    );
}

#[test]
fn text_that_is_no_configuration_is_refused_with_its_place() {
    let check = |text: &[u8], expected: &str| {
        let error = Config::parse(text, "f").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error:?} does not start with {expected:?}");
    };
    check(b"", "f:1:1: the file is empty");
    check(b" \n\t ", "f:1:1: the file is empty");
    check(b"[]", "f: 1 problem\n  (the file): must be an object, { … } (is a list)");
    check(b"7", "f: 1 problem\n  (the file)");
    check(b"{", "f:1:1: EOF while parsing");
    check(b"{}\n{}", "f:2:1: trailing characters");
    check(b"{\n \"a\": 1,\n}", "f:3:1: trailing comma");
    check(b"{\"a\":\n\"\xff\"}", "f:2:2: this byte is not UTF-8");
    check(b"\xef\xbb\xbf{}", "f: 3 problems");
    check("[".repeat(10_000).as_bytes(), "f:1:128: recursion limit exceeded");
    check(&vec![b' '; (FILE_BYTES_MAX + 1) as usize], "the configuration f has more than 1048576 bytes");
    let missing = Config::load(Path::new("no/such/file.json")).unwrap_err().to_string();
    assert_eq!(missing, "cannot read the configuration no/such/file.json");
}

#[test]
fn no_damage_makes_reading_panic() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = ONE_HOST.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *random.choice(b"{}[]\":,0-9e").expect("it is not empty")),
                _ => bytes.truncate(at),
            }
        }
        let result = std::panic::catch_unwind(|| match Config::parse(&bytes, "f") {
            Ok(config) => drop((config.leader().id.clone(), config.warnings(), config.links())),
            Err(error) => assert!(!error.to_string().is_empty()),
        });
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let warnings = |written: &str, instead: &str| {
        Config::parse(ONE_HOST.replacen(written, instead, 1), "f").unwrap().warnings().join("\n")
    };
    assert_eq!(
        warnings(r#""async_forwarding": true"#, r#""async_forwarding": false"#),
        "strategies.async_forwarding: false has no effect with parallel"
    );
    assert_eq!(
        warnings(r#""replicas": 1"#, r#""replicas": 3"#),
        "replicas: 3 asked for, but team green has 2 to hold them"
    );
    assert_eq!(warnings(r#""replicas": 1"#, r#""replicas": "all""#), "");
    let elsewhere = warnings(r#""host": "127.0.0.1", "port": 60051"#, r#""host": "10.0.0.1", "port": 0"#);
    assert!(elsewhere.starts_with("processes.A.port: B is on another host"), "{elsewhere}");
}
