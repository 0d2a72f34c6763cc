//! What `docker/` mounts and configures is there and loads.

use std::fs;
use std::path::Path;

use crate::support::repository;

#[test]
fn the_compose_configuration_loads() {
    let docker = repository().join("docker");
    let text = fs::read_to_string(docker.join("pgveil.toml")).unwrap();
    let config = pgveil::config::parse(Path::new("/etc/pgveil/pgveil.toml"), &text);
    assert!(config.is_ok(), "{:?}", config.err());
    let compose = fs::read_to_string(docker.join("compose.yaml")).unwrap();
    let mounted = compose.lines().filter_map(|line| line.trim().strip_prefix("- .")?.split(':').next());
    let paths: Vec<String> = mounted.map(|path| format!(".{path}")).collect();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        assert!(docker.join(&path).exists(), "docker/compose.yaml mounts {path}, which is not there");
    }
    let example = fs::read_to_string(docker.join(".env.example")).unwrap();
    for name in example.lines().filter_map(|line| line.strip_suffix('=')) {
        assert!(compose.contains(&format!("${{{name}:?")), "{name} has no default and must be asked for");
    }
    let dockerfile = fs::read_to_string(docker.join("Dockerfile")).unwrap();
    for copied in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|l| !l.starts_with("--")) {
        let names = copied.split(' ').collect::<Vec<_>>();
        for name in &names[..names.len() - 1] {
            assert!(repository().join(name).exists(), "docker/Dockerfile copies {name}, which is not there");
        }
    }
}
