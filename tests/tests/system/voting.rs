//! The example, the classical voting application: its images are made from Debian's packages, and
//! people vote.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use limpet_oci::Platform;
use limpet_tests::fleet::Fleet;
use limpet_tests::process::wait_for;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);
const VOTE: u16 = 5000;
const RESULT: u16 = 5001;
/// The images, and how large they may be in MiB: boards fetch them over thin links.
const IMAGES: [(&str, usize); 3] = [("app", 20), ("queue", 10), ("db", 45)];

fn example(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("images").join("voting").join(path)
}

/// Makes an image. Packages are kept beside the build, where a clean removes them.
fn make(image: &str) -> Vec<u8> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debian");
    let made = limpet_images::debian::make(&example(image), &Platform::host(), &cache);
    made.unwrap_or_else(|error| panic!("{}", chain(&error))).archive
}

/// Makes the images and gives them to a fleet, with the password of the database.
fn prepare(fleet: &Fleet) {
    for (image, mebibytes) in IMAGES {
        let archive = make(image);
        assert!(
            archive.len() < mebibytes << 20,
            "{} bytes are too much for {image}",
            archive.len()
        );
        fleet.load_image(&archive);
    }
    let password = fleet.folder().join("password");
    std::fs::write(&password, "not to be guessed\n").unwrap();
    fleet.limpet(&["secret", "create", "voting-db-password", password.to_str().unwrap()]);
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn an_image_is_the_same_bytes_every_time() {
    assert!(make("queue") == make("queue"));
}

/// Everything that runs writes down why it does not: its output is shown when the test fails.
fn apply(fleet: &Fleet, files: &[&Path]) {
    let files = files.iter().flat_map(|file| ["-f", file.to_str().unwrap()]);
    let words: Vec<_> = ["apply"].into_iter().chain(files).chain(["--wait"]).collect();
    let output = fleet.try_limpet(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let logs = || fleet.try_limpet(&["logs", "voting"]).stdout;
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&logs()));
}

/// One request; its status line and headers, and its body. None if nobody answers.
fn ask(address: &str, port: u16, request: &str) -> Option<(String, String)> {
    let address = format!("{address}:{port}").parse().unwrap();
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// Votes as a browser does: with the cookie of an earlier vote, if there was one. Gives the cookie.
fn vote(fleet: &Fleet, address: &str, choice: &str, cookie: Option<&str>) -> String {
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let body = format!("vote={choice}");
    let request =
        format!("POST / HTTP/1.0\r\n{cookie}Content-Length: {}\r\n\r\n{body}", body.len());
    wait_for(&format!("a vote at {address}"), || {
        let (head, _) = fleet.site().at("hub", || ask(address, VOTE, &request))?;
        let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: "))?;
        let voted = head.split_whitespace().nth(1) == Some("200");
        voted.then(|| cookie.split(';').next().unwrap_or_default().to_owned())
    })
}

fn result(fleet: &Fleet, address: &str) -> Option<Value> {
    let request = "GET /api HTTP/1.0\r\n\r\n";
    let (_, body) = fleet.site().at("hub", || ask(address, RESULT, request))?;
    serde_json::from_str(&body).ok()
}

fn wait_result(fleet: &Fleet, address: &str, cats: u32, dogs: u32) {
    let expected = json!({ "votes": { "Cats": cats, "Dogs": dogs }, "total": cats + dogs });
    let mut last = None;
    wait_for(&format!("{expected} at {address}"), || {
        let found = result(fleet, address)?;
        if last.as_ref() != Some(&found) {
            eprintln!("{address}: {found}");
            last = Some(found.clone());
        }
        (found == expected).then_some(())
    });
}

/// The node of each instance of a service.
fn nodes_of(fleet: &Fleet, service: &str) -> Vec<String> {
    let of = fleet.instances().into_iter().filter(|it| it["service"] == service);
    of.map(|it| it["node"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Kills one of the processes of a node whose command line has a word.
fn kill_one(fleet: &mut Fleet, node: &str, word: &str) {
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    let pid = fleet.node_mut(node).container_pids().into_iter().find(named).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The same services in their node's network: what is in the images works before networks do.
const IN_THE_NODES_NETWORK: &str = "
x-host: &host
  network_mode: host
  networks: !reset null
  ports: !reset null
services:
  vote:
    <<: *host
    environment: {QUEUE_HOST: 127.0.0.1, PORT: '5000'}
    x-probe: {ready: {http: {port: 5000, path: /healthz}, interval: 1s}}
    deploy: {replicas: 1}
  result:
    <<: *host
    environment: {DB_HOST: 127.0.0.1, PORT: '5001'}
    x-probe: {ready: {http: {port: 5001, path: /healthz}, interval: 1s}}
  worker: {<<: *host, environment: {QUEUE_HOST: 127.0.0.1, DB_HOST: 127.0.0.1}}
  queue: {<<: *host}
  db: {<<: *host}
";

#[test]
fn the_images_of_the_example_run_on_one_node() {
    let mut fleet = Fleet::on_a_site();
    prepare(&fleet);
    fleet.add_node("n1", &[]);
    let here = fleet.write_compose("here", IN_THE_NODES_NETWORK);
    apply(&fleet, &[&example("compose.yaml"), &here]);
    let address = fleet.site().address("n1");
    let first = vote(&fleet, &address, "a", None);
    vote(&fleet, &address, "b", None);
    wait_result(&fleet, &address, 1, 1);
    vote(&fleet, &address, "b", Some(&first));
    wait_result(&fleet, &address, 0, 2);

    // The database keeps what it has when it is made anew; the worker finds it again.
    fleet.limpet(&["restart", "voting.db", "--wait"]);
    vote(&fleet, &address, "a", None);
    wait_result(&fleet, &address, 1, 2);
}

#[test]
fn people_vote_on_one_node_and_see_the_result_on_the_other() {
    let mut fleet = Fleet::on_a_site();
    prepare(&fleet);
    fleet.add_node("one", &["role=front"]);
    fleet.add_node("two", &["role=back"]);
    apply(&fleet, &[&example("compose.yaml")]);
    assert_eq!(nodes_of(&fleet, "vote"), ["one", "one"]);
    assert_eq!(nodes_of(&fleet, "queue"), ["one"]);
    assert_eq!([nodes_of(&fleet, "worker"), nodes_of(&fleet, "db")], [["two"], ["two"]]);

    // Any node takes votes and shows the result, whichever runs the service.
    let [one, two] = ["one", "two"].map(|node| fleet.site().address(node));
    let first = vote(&fleet, &one, "a", None);
    vote(&fleet, &two, "a", None);
    vote(&fleet, &two, "b", None);
    for address in [&one, &two] {
        wait_result(&fleet, address, 2, 1);
    }
    vote(&fleet, &two, "b", Some(&first));
    wait_result(&fleet, &one, 1, 2);

    // The other instance takes the votes of one that dies, and it comes back.
    kill_one(&mut fleet, "one", "vote.py");
    for address in [&one, &two] {
        vote(&fleet, address, "a", None);
    }
    wait_result(&fleet, &two, 3, 2);
    let running = fleet.wait_running("vote", 2);
    assert!(running.iter().any(|it| it["attempt"].as_u64() > Some(1)), "{running:?}");
}
