//! Configs and secrets: where their bytes come from and where they are mounted.

use super::*;

fn contents_of(text: &str) -> (Application, Vec<crate::ContentSource>) {
    let options = crate::LoadOptions {
        files: vec!["compose.yaml".into()],
        project_name: Some("shop".to_owned()),
        environment: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
        ..Default::default()
    };
    let files = crate::MemoryFiles::new().with("compose.yaml", text);
    let project = crate::load(&options, &files).unwrap();
    assert!(!format!("{project:?}").contains("hunter2"), "a secret is not printed");
    assert!(!project.to_yaml().contains("hunter2"));
    (project.to_application().unwrap(), project.contents().to_vec())
}

#[test]
fn configs_and_secrets_in_short_and_long_syntax() {
    use crate::{ContentFrom, ContentKind};
    let (application, sources) = contents_of(
        "services:
  a:
    image: i
    configs: [app, {source: inline, target: etc/x.conf, uid: '33', gid: '29', mode: 0o777}]
    secrets: [token, {source: cert, target: tls.pem, mode: 0440}, {source: cert, target: /etc/tls.pem}]
configs:
  app: {file: ./app.conf}
  inline: {content: 'port ${PORT:-80}'}
  unused: {file: ./none}
secrets:
  token: {environment: TOKEN}
  cert: {external: true, name: site-cert}
",
    );
    let spec = &application.services.values().next().unwrap().spec;
    let shown = |mounts: &[limpet_protocol::spec::ContentMount]| -> Vec<String> {
        let show = |m: &limpet_protocol::spec::ContentMount| {
            format!("{} {} {}:{} {:o}", m.name, m.target, m.uid, m.gid, m.mode)
        };
        mounts.iter().map(show).collect()
    };
    assert_eq!(shown(&spec.configs), ["app /app 0:0 444", "inline /etc/x.conf 33:29 555"]);
    assert_eq!(
        shown(&spec.secrets),
        [
            "token /run/secrets/token 0:0 444",
            "cert /run/secrets/tls.pem 0:0 440",
            "cert /etc/tls.pem 0:0 444"
        ]
    );
    let found: Vec<(ContentKind, &str)> =
        sources.iter().map(|source| (source.kind, source.name.as_str())).collect();
    use ContentKind::{Config, Secret};
    assert_eq!(found, [(Config, "app"), (Config, "inline"), (Secret, "cert"), (Secret, "token")]);
    assert_eq!(sources[0].from, ContentFrom::File("/project/app.conf".into()));
    let ContentFrom::Text(text) = &sources[1].from else { panic!() };
    assert_eq!(text.expose(), "port 80");
    assert_eq!(sources[2].from, ContentFrom::External("site-cert".parse().unwrap()));
    let ContentFrom::Text(text) = &sources[3].from else { panic!() };
    assert_eq!(text.expose(), "hunter2");
}

#[test]
fn configs_and_secrets_that_cannot_be() {
    for (service, top, expected) in [
        ("secrets: [s]", "secrets: {s: {}}", "expected one source of content, found nothing"),
        (
            "configs: [s]",
            "configs: {s: {file: ./a, content: b}}",
            "expected one source of content, found file and content",
        ),
        ("secrets: [s]", "secrets: {s: {environment: NOPE}}", "the variable NOPE is not set"),
        ("secrets: [s]", "secrets: {s: {external: true, name: 'a b'}}", "is no name for it"),
        ("secrets: [{source: s, uid: root}]", "secrets: {s: {file: ./a}}", "the number of a user"),
        ("secrets: [{source: s, mode: 9}]", "secrets: {s: {file: ./a}}", "permission bits"),
        ("secrets: [{source: s, target: ../x}]", "secrets: {s: {file: ./a}}", "no path of a file"),
        (
            "secrets: [s, {source: s}]",
            "secrets: {s: {file: ./a}}",
            "something is mounted at /run/secrets/s already",
        ),
        ("secrets: [s]", "secrets: {s: {file: ./a, driver: vault}}", "cannot honour this key"),
    ] {
        let text = format!("services: {{a: {{image: i, {service}}}}}\n{top}\n");
        let options = crate::LoadOptions {
            files: vec!["compose.yaml".into()],
            project_name: Some("shop".to_owned()),
            ..Default::default()
        };
        let files = crate::MemoryFiles::new().with("compose.yaml", &text);
        let said = match crate::load(&options, &files) {
            Ok(project) => project.to_application().unwrap_err(),
            Err(said) => said,
        };
        let said: Vec<String> = said.iter().map(crate::Diagnostic::one_line).collect();
        assert!(said.iter().any(|line| line.contains(expected)), "{text}: {said:#?}");
    }
}
