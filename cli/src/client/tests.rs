//! Addresses, names in paths, and what a refusal says.

use super::*;

fn connection(server: &str) -> Connection {
    Connection {
        server: server.into(),
        server_source: Source::Default,
        token: None,
        token_source: Source::Default,
        looked_in: vec!["/x/client.toml".into()],
    }
}

#[test]
fn an_address_must_be_http() {
    for server in ["https://a", "10.0.0.5:7600", "", "tcp://a:1"] {
        let error = Client::new(connection(server)).unwrap_err();
        assert_eq!(error.code(), Code::Usage, "{server}");
    }
}

#[test]
fn names_cannot_leave_their_place_in_the_path() {
    let client = Client::new(connection("http://a:1/")).unwrap();
    let request = client.request(Method::GET, &["v1", "nodes", "../x?y"], &[]).build().unwrap();
    assert_eq!(request.url().as_str(), "http://a:1/v1/nodes/..%2Fx%3Fy");
}

#[test]
fn a_refusal_says_where_the_token_came_from() {
    let refused = |token| ClientError::Refused {
        server: "http://a".into(),
        token,
        looked_in: vec!["/x/client.toml".into()],
    };
    assert!(refused(None).to_string().contains("/x/client.toml"));
    let named = refused(Some(Source::Argument("--token or LIMPET_TOKEN"))).to_string();
    assert!(named.contains("--token or LIMPET_TOKEN"), "{named}");
}
