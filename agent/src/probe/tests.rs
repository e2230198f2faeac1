//! Probes against servers of all kinds on the node's own loopback device.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

/// A server that answers every connection so, and the port that it has.
fn server(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if answer == "hang" {
                std::mem::forget(stream);
                continue;
            }
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).unwrap_or(0);
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    port
}

async fn get(port: u16) -> Outcome {
    let question = Question::Http { path: "/x".to_owned(), headers: BTreeMap::new() };
    ask(Network::Node, port, question, Duration::from_millis(500)).await
}

fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(said) => said,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_status_of_200_to_399_is_success() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        ("HTTP/1.0 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 302 Found\r\nLocation: /y\r\n\r\n", None),
        ("HTTP/1.1 404 Not Found\r\n\r\n", Some("404 Not Found")),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", Some("503 Service Unavailable")),
        ("SSH-2.0-OpenSSH\r\n", Some("not HTTP")),
        ("", Some("closed without an answer")),
    ] {
        let outcome = get(server(answer)).await;
        match expected {
            None => assert_eq!(outcome, Outcome::Passed, "{answer:?}"),
            Some(words) => {
                let said = failed(outcome);
                assert!(said.contains("GET /x on port") && said.contains(words), "{said}");
            }
        }
    }
}

#[tokio::test]
async fn silence_and_floods_end_at_the_time_out() {
    let began = tokio::time::Instant::now();
    let said = failed(get(server("hang")).await);
    assert!(said.contains("did not answer within 500ms"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let said = failed(get(port).await);
    assert!(said.contains("not HTTP"), "{said}");
}

#[tokio::test]
async fn a_port_is_open_or_not() {
    let tcp = |port| ask(Network::Node, port, Question::Tcp, Duration::from_secs(5));
    assert_eq!(tcp(server("hang")).await, Outcome::Passed);
    let six = TcpListener::bind("[::1]:0").unwrap();
    assert_eq!(tcp(six.local_addr().unwrap().port()).await, Outcome::Passed);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(failed(tcp(free).await), format!("connect to port {free}: nobody listens"));
}

#[tokio::test]
async fn a_container_that_is_gone_is_no_failure() {
    let gone = Network::Of { pid: u32::MAX };
    let outcome = ask(gone, 80, Question::Tcp, Duration::from_secs(5)).await;
    assert!(matches!(&outcome, Outcome::NotMade(why) if why.contains("network")), "{outcome:?}");
}
