//! What is refused, by whom, and the exit code that a script sees.

use serde_json::json;

use crate::program::{Place, project};

#[test]
fn shipped_configurations_are_sound() {
    let place = Place::new("one_host.json");
    for name in ["one_host.json", "two_hosts.json", "five_process.json", "embedded.json"] {
        let path = project().join("configs").join(name);
        let said = place.check(&["config", "check", "--config", path.to_str().unwrap()], 0, &[]);
        assert!(said.lines().last().unwrap().ends_with(&format!("{name}: ok")), "{said}");
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_the_path_of_its_key() {
    let check = |change: fn(&mut serde_json::Value), words: &[&str]| {
        let place = Place::with("one_host.json", change);
        for arguments in [&["config", "check"][..], &["up"], &["node", "--id", "A"], &["query"]] {
            place.check(arguments, 2, words);
        }
    };
    check(
        |config| config["strategies"]["forwarding_strateggy"] = json!("parallel"),
        &["strategies.forwarding_strateggy", "did you mean", "forwarding_strategy"],
    );
    check(
        |config| config["strategies"]["chunking_strategy"] = json!("adaptiv"),
        &["strategies.chunking_strategy", "did you mean", "adaptive"],
    );
    check(|config| config["processes"]["C"]["team"] = json!("gren"), &["processes.C.team", "did you mean", "green"]);
    check(
        |config| config["processes"]["F"]["neighbors"] = json!(["A"]),
        &["processes.F.neighbors[0]", "A does not list F"],
    );
    check(|config| config["limits"]["queue_capacity"] = json!("many"), &["limits.queue_capacity"]);
    let place = Place::new("one_host.json");
    std::fs::write(place.path("overlay.json"), "{\n  \"dataset\": }").unwrap();
    place.check(&["config", "check"], 2, &["overlay.json:2:"]);
    place.check(&["--config", "none.json", "query"], 2, &["none.json", "--config"]);
    place.configure(&json!({}));
    place.check(&["config", "check"], 2, &["processes"]);
}

#[test]
fn usage_ends_with_2_before_anything_is_asked() {
    let place = Place::new("one_host.json");
    let refused: &[(&[&str], &[&str])] = &[
        (&["quarry"], &["quarry"]),
        (&[], &["Usage"]),
        (&["query", "PM2.5", "five", "35"], &["five"]),
        (&["query", "PM2.5", "35", "5"], &["the range is empty", "overlay query PM2.5 5 35"]),
        (&["query", "--from", "2020-08-10"], &["2020-08-10"]),
        (&["query", "--from", "20200811", "--to", "20200810"], &["--from 20200811 is after --to 20200810"]),
        (&["query", "--bbox", "1,2,3"], &["south,west,north,east"]),
        (&["query", "--bbox", "40,-120,30,-90"], &["south"]),
        (&["query", "--timeout", "0"], &["seconds"]),
        (&["query", "--format", "xml"], &["xml"]),
        (&["query", "--encoding", "bson"], &["bson", "arrow_ipc"]),
        (&["sql"], &["Usage"]),
        (&["sql", "-f", "none.sql"], &["none.sql cannot be read"]),
        (&["node", "--id", "Z"], &["there is no process \"Z\"", "A, B, C, D, E, F"]),
        (&["metrics", "Z"], &["there is no process \"Z\""]),
        (&["up", "--chunk-size", "0"], &["chunk"]),
        (&["up", "--forwarding-strategy", "paralel"], &["paralel", "did you mean", "parallel"]),
    ];
    for (arguments, words) in refused {
        assert_eq!(place.check(arguments, 2, words), "", "stdout is data only");
    }
    place.check(&["--help"], 0, &[]);
    assert!(place.check(&["--version"], 0, &[]).starts_with("overlay "));
}

#[test]
fn the_leader_refuses_what_it_cannot_answer() {
    let place = Place::with_data("embedded.json");
    let _up = place.up(&[]);
    let refused: &[(&[&str], &[&str])] = &[
        (&["sql", "SELEC 1"], &["error: "]),
        (&["sql", ""], &["error: "]),
        (&["sql", "SELECT nothing FROM observations"], &["nothing"]),
        (&["sql", "SELECT 1; SELECT 2"], &["2 statements; send one"]),
        (&["sql", "DROP TABLE observations"], &["error: "]),
        (&["sql", "INSERT INTO observations SELECT * FROM observations"], &["error: "]),
        (&["sql", "COPY observations TO 'x.csv'"], &["error: "]),
        (&["sql", "SET datafusion.execution.batch_size = 1"], &["error: "]),
        (&["sql", "SELECT * FROM '/etc/passwd'"], &["error: "]),
        (&["sql", "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'"], &["error: "]),
        (&["query", "--columns", "utc,sitename"], &["sitename"]),
        (&["query", "--as", "blue"], &["there is no team \"blue\"", "all"]),
    ];
    for (arguments, words) in refused {
        assert_eq!(place.check(arguments, 2, words), "", "stdout is data only");
        assert_eq!(place.check(arguments, 2, words), "");
    }
    assert_eq!(place.check(&["sql", "SELECT 1 AS one"], 0, &["1 row in"]), "one\n1\n", "it goes on");
}

#[test]
fn nobody_there_ends_with_4() {
    let place = Place::new("one_host.json");
    for arguments in [&["query"][..], &["sql", "SELECT 1"], &["status"], &["metrics"], &["partitions"]] {
        place.check(arguments, 4, &["overlay up"]);
        // A port that was free a moment ago: bound, asked for its number, given back.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let said = [&["--leader", &address], arguments].concat();
        place.check(&said, 4, &[&format!("no node can be reached at {address}"), "overlay up"]);
    }
    place.check(&["status", "--wait", "0.2"], 4, &[]);
    let worker = Place::with_data("five_process.json");
    let _up = worker.up(&[]);
    let status: serde_json::Value =
        serde_json::from_str(&worker.check(&["status", "--format", "json"], 0, &[])).unwrap();
    let members = status["members"].as_array().unwrap();
    let address = members.iter().find(|member| member["process_id"] == "C").unwrap()["address"].as_str().unwrap();
    worker.check(&["--leader", address, "query"], 1, &["C takes no queries", "ask the Leader, A at"]);
}
