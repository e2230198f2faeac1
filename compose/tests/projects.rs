//! Whole projects: how files are found, named, included, extended and put together, and what is
//! said when they do not fit.
#![cfg(test)]

use limpet_compose::{LoadOptions, MemoryFiles, Project, RealFiles, load};
use serde_json::json;

const I: &str = "{image: i}";

fn files(all: &[(&str, &str)]) -> MemoryFiles {
    all.iter().fold(MemoryFiles::new(), |files, (path, text)| files.with(path, text))
}

fn options(names: &[&str], environment: &[(&str, &str)]) -> LoadOptions {
    LoadOptions {
        files: names.iter().map(Into::into).collect(),
        environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..LoadOptions::default()
    }
}

fn project(options: &LoadOptions, all: &[(&str, &str)]) -> Project {
    load(options, &files(all)).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn errors(options: &LoadOptions, all: &[(&str, &str)]) -> Vec<String> {
    load(options, &files(all)).unwrap_err().iter().map(|error| error.one_line()).collect()
}

fn expect(lines: &[String], part: &str) {
    assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
}

#[test]
fn files_are_found_in_the_folder_and_above_it() {
    let text = format!("services: {{a: {I}}}");
    let below = LoadOptions {
        project_directory: Some("/project/deep/er".into()),
        ..LoadOptions::default()
    };
    let found = project(&below, &[("docker-compose.yml", &text)]);
    assert_eq!(found.name(), "er");
    let over = "services: {a: {user: u}}";
    let found = project(
        &LoadOptions::default(),
        &[("compose.yaml", &text), ("compose.override.yml", over), ("docker-compose.yml", "x")],
    );
    assert_eq!(found.to_value()["services"]["a"]["user"], "u");
    expect(&errors(&below, &[]), "no Compose file in /project/deep/er or a folder above it");
    expect(&errors(&options(&["no.yaml"], &[]), &[]), "there is no file /project/no.yaml");
    let environment = options(&[], &[("COMPOSE_FILE", "x.yaml:y.yaml")]);
    let found = project(&environment, &[("x.yaml", &text), ("y.yaml", over)]);
    assert_eq!(found.to_value()["services"]["a"]["image"], "i");
}

#[test]
fn a_project_has_a_name() {
    let text = "name: ${N:-inside}\nservices: {a: {image: \"${COMPOSE_PROJECT_NAME}\"}}";
    let all = [("compose.yaml", text), ("My Shop_1/compose.yaml", "services: {a: {image: i}}")];
    let image = |options: &LoadOptions| {
        let project = project(options, &all);
        (project.name().to_owned(), project.to_value()["services"]["a"]["image"].clone())
    };
    assert_eq!(image(&LoadOptions::default()), ("inside".to_owned(), json!("inside")));
    assert_eq!(image(&options(&[], &[("N", "n")])).0, "n");
    assert_eq!(image(&options(&[], &[("COMPOSE_PROJECT_NAME", "env")])).0, "env");
    let mut given = options(&[], &[("COMPOSE_PROJECT_NAME", "env")]);
    given.project_name = Some("given".to_owned());
    assert_eq!(image(&given).1, json!("given"));
    assert_eq!(image(&options(&["My Shop_1/compose.yaml"], &[])).0, "myshop_1");
    given.project_name = Some("No Name".to_owned());
    expect(&errors(&given, &all), "is no name for a project");
    expect(
        &errors(&LoadOptions::default(), &[("compose.yaml", "name: A\nservices: {a: {image: i}}")]),
        "compose.yaml:1:7: error: name: \"A\" is no name",
    );
}

#[test]
fn variables_come_from_the_environment_and_files() {
    let compose = "services:\n  a:\n    image: ${A}-${B}\n    env_file:\n      - one.env\n      \
                   - {path: no.env, required: false}\n      - {path: raw.env, format: raw}\n    \
                   label_file: labels\n    labels: [l=own]\n    environment: {X: own, OUT: }\n";
    let all = [
        ("compose.yaml", compose),
        (".env", "A=file\nB=file\n"),
        ("other.env", "A=other\nB=other"),
        ("one.env", "X=one\nY=${A}\n"),
        ("raw.env", "Z='$A'\n"),
        ("labels", "l=file\nm=file"),
    ];
    let found = project(&options(&[], &[("B", "outside"), ("OUT", "o")]), &all).to_value();
    let service = &found["services"]["a"];
    assert_eq!(service["image"], "file-outside");
    assert_eq!(service["environment"], json!({"X": "own", "OUT": "o", "Y": "file", "Z": "'$$A'"}));
    assert_eq!(service["labels"], json!({"l": "own", "m": "file"}));
    assert!(service.get("env_file").is_none());
    let mut named = LoadOptions::default();
    named.env_files.push("other.env".into());
    assert_eq!(project(&named, &all).to_value()["services"]["a"]["image"], "other-other");
    named.env_files.push("gone.env".into());
    expect(&errors(&named, &all), "there is no file /project/gone.env");
    let missing = "services: {a: {image: i, env_file: [no.env]}}";
    expect(
        &errors(&LoadOptions::default(), &[("compose.yaml", missing)]),
        "compose.yaml:1:37: error: there is no file /project/no.env",
    );
    let unset =
        project(&LoadOptions::default(), &[("compose.yaml", "services: {a: {image: \"i$U\"}}")]);
    let lines: Vec<_> = unset.warnings.iter().map(|one| one.one_line()).collect();
    expect(&lines, "compose.yaml:1:25: warning: services.a.image: the variable U is not set");
    let needed = "services: {a: {image: \"${U:?name it}\"}}";
    expect(
        &errors(&LoadOptions::default(), &[("compose.yaml", needed)]),
        "error: services.a.image: the variable U is needed: name it",
    );
}

#[test]
fn later_files_go_over_earlier_ones() {
    let one = "services: {a: {image: i, ports: ['80:80'], command: x}}";
    let two = "services:\n  a: {image: j, ports: !override ['81:81'], command: !reset null}\n  b: {image: k}\n\
               ---\nservices: {b: {image: l}}\n";
    let found =
        project(&options(&["1.yaml", "d/2.yaml"], &[]), &[("1.yaml", one), ("d/2.yaml", two)]);
    let services = &found.to_value()["services"];
    assert_eq!((&services["a"]["image"], &services["b"]["image"]), (&json!("j"), &json!("l")));
    assert_eq!(services["a"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(services["a"]["ports"][0]["published"], "81");
    assert!(services["a"].get("command").is_none());
}

#[test]
fn services_extend_services() {
    let base = "services:\n  base: {image: b, volumes: ['./d:/d'], environment: {A: 1, B: 1}}\n  \
                mid: {extends: base, environment: {B: 2}}\n";
    let main = "services:\n  a: {extends: {service: mid, file: sub/base.yaml}, environment: {C: 3}, \
                volumes: ['./e:/e']}\n  c: {extends: a, image: own}\n";
    let all = [("compose.yaml", main), ("sub/base.yaml", base)];
    let found = project(&LoadOptions::default(), &all).to_value();
    let a = &found["services"]["a"];
    assert_eq!(a["image"], "b");
    assert_eq!(a["environment"], json!({"A": "1", "B": "2", "C": "3"}));
    assert_eq!(a["volumes"][0]["source"], "/project/sub/d");
    assert_eq!(a["volumes"][1]["source"], "/project/e");
    assert_eq!(found["services"]["c"]["image"], "own");
    assert_eq!(found["services"]["c"]["environment"]["C"], "3");
    assert!(found["services"].get("mid").is_none());
    let cycle = "services:\n  a: {extends: b}\n  b: {extends: a}\n";
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", cycle)]);
    expect(
        &lines,
        "compose.yaml:2:16: error: services.a.extends: a service extends itself: a → b → a",
    );
    let gone = "services: {a: {extends: b}, c: {extends: {file: x.yaml, service: d}}, \
                e: {extends: {file: compose.yaml, service: q}}}";
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", gone)]);
    expect(&lines, "there is no service `b` to extend");
    expect(&lines, "there is no file /project/x.yaml");
    expect(&lines, "compose.yaml has no service `q`");
    let tags = "services:\n  a: {image: i, ports: ['80'], user: u}\n  \
                b: {extends: a, ports: !reset null, user: !override v}\n";
    let found = project(&LoadOptions::default(), &[("compose.yaml", tags)]).to_value();
    assert!(found["services"]["b"].get("ports").is_none());
    assert_eq!(found["services"]["b"]["user"], "v");
}

#[test]
fn projects_include_projects() {
    let main = "include:\n  - sub/compose.yaml\n  - {path: [x.yaml, y.yaml], env_file: x.env, \
                project_directory: elsewhere}\nservices: {a: {image: i, depends_on: [b, c]}}\n";
    let all = [
        ("compose.yaml", main),
        (
            "sub/compose.yaml",
            "services: {b: {image: \"$IMAGE\", volumes: ['./d:/d', 'v:/v']}}\nvolumes: {v: }",
        ),
        ("sub/.env", "IMAGE=from-sub"),
        ("x.yaml", "services: {c: {image: \"$IMAGE\", volumes: ['./d:/d']}}"),
        ("y.yaml", "services: {c: {user: u}}"),
        ("x.env", "IMAGE=from-x"),
    ];
    let found = project(&LoadOptions::default(), &all).to_value();
    assert_eq!(found["services"]["b"]["image"], "from-sub");
    assert_eq!(found["services"]["b"]["volumes"][0]["source"], "/project/sub/d");
    assert_eq!(found["services"]["c"]["image"], "from-x");
    assert_eq!(found["services"]["c"]["volumes"][0]["source"], "/project/elsewhere/d");
    assert_eq!(found["services"]["c"]["user"], "u");
    assert_eq!(found["volumes"]["v"]["name"], "project_v");
    let conflict = [
        ("compose.yaml", "include: [o.yaml]\nservices: {a: {image: i}}"),
        ("o.yaml", "services: {a: {image: other}}"),
    ];
    let lines = errors(&LoadOptions::default(), &conflict);
    expect(&lines, "compose.yaml:2:12: error: services.a: `a` is also in the included o.yaml");
    let cycle = [("compose.yaml", "include: [o.yaml]"), ("o.yaml", "include: [compose.yaml]")];
    expect(
        &errors(&LoadOptions::default(), &cycle),
        "a file includes itself: /project/compose.yaml → ",
    );
    let web = [("compose.yaml", "include: ['https://x/y']\nservices: {a: {image: i}}")];
    expect(&errors(&LoadOptions::default(), &web), "only files are included");
    let many: Vec<(String, String)> = (0..12)
        .map(|n| {
            let next = format!("{}.yaml", n + 1);
            (format!("{n}.yaml"), format!("include: [{{path: {next}}}, {{path: ./{next}}}]"))
        })
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    expect(&errors(&options(&["0.yaml"], &[]), &many), "reads more than 500 files");
}

#[test]
fn profiles_choose_services() {
    let text = "services:\n  a: {image: i}\n  b: {image: i, profiles: [dev]}\n  \
                c: {image: i, profiles: [dev, test]}\n";
    let names = |options: &LoadOptions| {
        let value = project(options, &[("compose.yaml", text)]).to_value();
        let mut names: Vec<_> = value["services"].as_object().unwrap().keys().cloned().collect();
        names.sort();
        names.join(" ")
    };
    let mut options = LoadOptions::default();
    assert_eq!(names(&options), "a");
    options.profiles = vec!["test".to_owned()];
    assert_eq!(names(&options), "a c");
    options.profiles = vec!["*".to_owned()];
    assert_eq!(names(&options), "a b c");
    options.profiles = Vec::new();
    options.environment.insert("COMPOSE_PROFILES".to_owned(), "dev, x".to_owned());
    assert_eq!(names(&options), "a b c");
    let needs = "services: {a: {image: i, depends_on: [b]}, b: {image: i, profiles: [x]}}";
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", needs)]);
    expect(&lines, "services.a.depends_on.b: there is no service `b`");
}

#[test]
fn everything_wrong_is_said_in_one_go() {
    let text = "services:\n  web:\n    imgae: x\n    tty: maybe\n    ports: ['x']\n    deploy: {replicas: many}\n\
                volume: {}\nimage: y\n";
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", text)]);
    for part in [
        "compose.yaml:3:5: error: services.web.imgae: unknown key `imgae`; did you mean `image`?",
        "compose.yaml:4:10: error: services.web.tty: expected true or false, found \"maybe\"",
        "compose.yaml:5:13: error: services.web.ports[0]: \"x\" is no port",
        "compose.yaml:6:24: error: services.web.deploy.replicas: expected a whole number",
        "compose.yaml:7:1: error: volume: unknown key `volume`; did you mean `volumes`?",
        "compose.yaml:8:1: error: image: unknown key `image`; it belongs to a service",
    ] {
        expect(&lines, part);
    }
    let text = "services:\n  a: {image: i, volumes: ['dta:/d'], networks: [n], secrets: [s], configs: [c], \
                depends_on: [b]}\n  b: {image: i, depends_on: [c]}\n  c: {image: i, depends_on: [b]}\n  \
                d: {image: i, depends_on: [bb], network_mode: host, networks: [default]}\nvolumes: {data: }\n";
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", text)]);
    for part in [
        "services.a.volumes: there is no `dta` under `volumes`; did you mean `data`?",
        "there is no `n` under `networks`",
        "there is no `s` under `secrets`",
        "there is no `c` under `configs`",
        "there is no service `bb`; did you mean `b`?",
        "services wait for each other: b → c → b",
        "exclude each other",
    ] {
        expect(&lines, part);
    }
    for (text, part) in [
        ("", "the project has no service"),
        ("services: {}", "the project has no service"),
        ("[]", "expected a mapping, found a list"),
        ("services: []", "services: expected a mapping, found a list"),
        ("services: {a: }", "services.a: expected a mapping with `image` and more, found nothing"),
        ("services: {a b: {image: i}}", "\"a b\" is no name"),
        ("services: {a: {image: true}}", "put it into quotes"),
        ("services: {a: {image: i, stop_grace_period: 10}}", "write `10s` if seconds are meant"),
        ("web: {image: i}", "services stand below `services:`"),
    ] {
        expect(&errors(&LoadOptions::default(), &[("compose.yaml", text)]), part);
    }
}

#[test]
fn too_much_is_said_to_be_too_much() {
    let keys: String = (0..300).map(|n| format!("  a{n}: {{image: i, q: 1}}\n")).collect();
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", &format!("services:\n{keys}"))]);
    assert_eq!(lines.len(), 201);
    expect(&lines, "error: more than 200 of these; the rest is not shown");
    let keys = keys.replace(", q: 1", "");
    let lines = errors(&LoadOptions::default(), &[("compose.yaml", &format!("services:\n{keys}"))]);
    expect(&lines, "300 services, where an application may have 256");
    let long = format!("services: {{a: {{image: i, command: [\"{}\"]}}}}", "x".repeat(70_000));
    let large = project(&LoadOptions::default(), &[("compose.yaml", &long)]).to_application();
    assert!(large.unwrap_err()[0].one_line().contains("larger than 65536 bytes"));
    let spread = format!("services: {{a: {{image: i, command: [{}]}}}}", "\"$V\",".repeat(200));
    let value = "x".repeat(120_000);
    let lines = errors(&options(&[], &[("V", &value)]), &[("compose.yaml", &spread)]);
    expect(&lines, "the variables become more than 16777216 bytes");
}

#[test]
fn the_resolved_file_is_printed_in_order() {
    let text = "x-base: &base {image: i, tty: true}\nservices:\n  web:\n    <<: *base\n    command: run --now\n    \
                ports: ['8080:80']\n    environment: [A=1, B, 'C=a$$b', D=yes, E=, 'F=1: 2 #']\n  db: {image: d, network_mode: host}\n\
                volumes: {data: }\nname: shop\n";
    let printed = project(&LoadOptions::default(), &[("compose.yaml", text)]).to_yaml();
    let expected = "\
name: shop
services:
  db:
    image: d
    network_mode: host
  web:
    command:
      - run
      - --now
    environment:
      A: \"1\"
      B: null
      C: a$$b
      D: \"yes\"
      E: \"\"
      F: \"1: 2 #\"
    image: i
    networks:
      default: null
    ports:
      - mode: ingress
        protocol: tcp
        published: \"8080\"
        target: 80
    tty: true
networks:
  default:
    name: shop_default
volumes:
  data:
    name: shop_data
x-base:
  image: i
  tty: true
";
    assert_eq!(printed, expected);
}

#[test]
fn diagnostics_show_the_line_of_the_file() {
    let list =
        load(&LoadOptions::default(), &files(&[("compose.yaml", "services:\n  a: {imag: i}\n")]));
    let diagnostic = list.unwrap_err().remove(0);
    let mut shown = String::new();
    let handler = miette::NarratableReportHandler::new();
    handler.render_report(&mut shown, &diagnostic).unwrap();
    for part in ["compose.yaml", "services.a.imag", "line 2", "did you mean `image`?"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn real_files_are_read_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compose.yaml");
    std::fs::write(&path, "name: real\nservices: {a: {image: i}}").unwrap();
    let options = LoadOptions { files: vec![path.clone()], ..LoadOptions::default() };
    assert_eq!(load(&options, &RealFiles).unwrap().name(), "real");
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    let error = load(&options, &RealFiles).unwrap_err()[0].one_line();
    assert!(error.contains("larger than 1048576 bytes"), "{error}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&options, &RealFiles).unwrap_err()[0].one_line().contains("not UTF-8"));
    let options = LoadOptions { files: vec![folder.path().into()], ..LoadOptions::default() };
    assert!(load(&options, &RealFiles).unwrap_err()[0].one_line().contains("cannot read"));
}
