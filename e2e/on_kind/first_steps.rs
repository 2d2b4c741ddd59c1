//! What the README tells newcomers to do, by its letter.

use std::{fs, process::Command};

use super::{
    cluster::{installed, kubectl_ok, within, words},
    use_cases::IMAGES,
};
use crate::support::site::Shop;

/// The namespace that the README's `shop` is here.
const NAMESPACE: &str = "e2e-first";
/// A command with this flag has no end: the test waits by itself for what it would show.
const WATCHED: &str = "--watch";

/// The commands of the console block that comes first after a heading of the README, each without its remark.
fn commands(heading: &str) -> Vec<String> {
    let text = fs::read_to_string("README.md").expect("the README");
    let (_, section) = text.split_once(&format!("\n{heading}\n")).expect("the heading is there");
    let (_, rest) = section.split_once("```console\n").expect("it has commands");
    let (block, _) = rest.split_once("```").expect("they end");
    block.lines().map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned()).collect()
}

/// The text as it has to be here: for the test's namespace, and with images that the cluster has.
fn here(text: &str) -> String {
    let text = text.replace("-n shop", &format!("-n {NAMESPACE}")).replace(".shop.svc", &format!(".{NAMESPACE}.svc"));
    IMAGES.iter().fold(text, |text, (image, ours)| text.replace(image, ours))
}

#[tokio::test]
async fn the_first_rule_of_the_readme_fires_for_who_follows_it_by_the_letter() {
    let _release = installed().await;
    let client = kube::Client::try_default().await.expect("a client of the cluster");
    let shop = Shop { name: NAMESPACE.to_owned(), client };
    let folder = tempfile::TempDir::new().expect("a folder");
    for file in ["deploy/samples/crashloop.yaml", "deploy/samples/use-cases/inbox.yaml"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("files have a folder")).expect("make the folder");
        fs::write(path, here(&fs::read_to_string(file).expect("a sample"))).expect("write the sample");
    }
    let mut said = String::new();
    for command in commands("## The first rule") {
        if command.contains(WATCHED) {
            // In its place: until the first firing has succeeded.
            within(&shop, "crashloop", "the rule has fired", |status| status["counts"]["succeeded"].as_u64() > Some(0))
                .await;
            continue;
        }
        let output =
            Command::new("sh").args(["-ec", &here(&command)]).current_dir(folder.path()).output().expect("run it");
        assert!(output.status.success(), "{command}: {}", words(&output));
        said.push_str(&words(&output));
    }
    for part in ["Fired", "Succeeded", "web-", "keeps crashing"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!kubectl_ok(&["get", "deployments", "-n", NAMESPACE, "-o", "name"], "").contains("web"), "it was deleted");
}
