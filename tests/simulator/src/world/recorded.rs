//! The installations the recordings were made on.

use super::{BuildScript, OauthClient, Parameter, PipelineWorld, Project, User, UserState, Workspace, World};
use crate::rbac::Role;

const SCRIPTED: [&str; 6] = [
    "DURATION",
    "RESULT",
    "QUEUE",
    "LOG_BYTES",
    "ARTIFACTS",
    "ARTIFACT_BPS",
];

fn version() -> Parameter {
    Parameter::string("VERSION", "1.0.0")
}

fn bare(name: &str) -> Parameter {
    Parameter {
        default: None,
        ..Parameter::string(name, "")
    }
}

/// A pipeline whose builds are scripted by parameters.
fn scripted(name: &str, change: impl FnOnce(&mut BuildScript)) -> PipelineWorld {
    PipelineWorld::regular(name)
        .created_by("alice")
        .parameters(SCRIPTED.map(bare))
        .parameters([version()])
        .script(change)
}

fn result(name: &str, result: &str, duration: f64) -> PipelineWorld {
    scripted(name, |s| {
        s.result = result.into();
        s.duration = duration;
    })
}

const ARTIFACTS: &str = "app.jar:1048576,target/reports/junit report.xml:2048,dist/linux amd64/app.tar.gz:65536,\
                         empty.txt:0,résumé.txt:17,a+b%20c.txt:9";

fn people(world: World) -> World {
    world
        .user(User::new("alice", "tenant-Passw0rd"))
        .user(User::new("bob", "viewer-Passw0rd"))
        .user(User::new("carol", "viewer-Passw0rd"))
        .user(User::new("dora", "viewer-Passw0rd").state(UserState::Disabled))
        .user(User::new("rita", "viewer-Passw0rd").state(UserState::AuthLimitExceeded))
}

fn base() -> World {
    let mut world = people(World::empty())
        .workspace(Workspace::new("acme", &["host"]).member("alice", Role::workspace_member()))
        .workspace(Workspace::new("other", &["host"]))
        .workspace(Workspace::new("empty", &["host"]).member("alice", Role::workspace_member()));
    world.clients.push(OauthClient {
        id: "shortlived".into(),
        secret: "shortlived".into(),
        trusted: true,
        lifetimes: Some((3, 3)),
    });
    world.clients.push(OauthClient {
        id: "untrusted".into(),
        secret: "untrusted".into(),
        trusted: false,
        lifetimes: None,
    });
    world
}

fn pipelines(project: Project) -> Project {
    project
        .owned_by("alice")
        .member("bob", Role::viewer())
        .pipeline(result("aborts", "ABORTED", 3.0))
        .pipeline(scripted("artifacts", |s| {
            s.artifacts = ARTIFACTS.into();
            s.duration = 2.0;
        }))
        .pipeline(scripted("biglog", |s| s.log_bytes = 8 * 1024 * 1024))
        .pipeline(result("fails", "FAILURE", 3.0))
        .pipeline(scripted("hello", |_| ()))
        .pipeline(PipelineWorld::multi_branch("multi", &["main", "develop", "feature/x"]).created_by("alice"))
        .pipeline(
            PipelineWorld::regular("noparams")
                .created_by("alice")
                .script(|s| s.duration = 2.0),
        )
        .pipeline(result("notbuilt", "NOT_BUILT", 2.0))
        .pipeline(scripted("queued", |s| s.queue = 6.0))
        .pipeline(scripted("slow", |s| s.duration = 15.0))
        .pipeline(result("unstable", "UNSTABLE", 3.0))
}

fn gate(name: &str, creator: &str) -> PipelineWorld {
    PipelineWorld::regular(name)
        .created_by(creator)
        .parameters(["DURATION", "INPUT", "INPUT_SUBMITTER", "INPUT_PARAMS"].map(bare))
        .parameters([version()])
}

impl World {
    /// The installation of recordings 01xx–23xx: project `demo2snmj` of workspace acme, `secretjwqhk` of another.
    pub fn recorded() -> Self {
        base()
            .project(pipelines(Project::new("acme", "demo").named("demo2snmj")))
            .project(
                Project::new("other", "secret")
                    .named("secretjwqhk")
                    .pipeline(scripted("hidden", |_| ()).created_by("admin")),
            )
    }

    /// The second installation (recordings 30xx–37xx): project `demo4ksqs` with pipelines that wait for an input,
    /// and the member cluster `member-1` with the project `eastrq64q`.
    pub fn recorded_with_member() -> Self {
        let mut world = base()
            .cluster("member-1")
            .project(
                pipelines(Project::new("acme", "demo").named("demo4ksqs"))
                    .pipeline(gate("gate", "alice"))
                    .pipeline(gate("gate-admin", "admin")),
            )
            .project(
                Project::new("other", "secret")
                    .named("secretdqknl")
                    .pipeline(scripted("hidden", |_| ()).created_by("admin")),
            )
            .project(pipelines(
                Project::new("acme", "east").named("eastrq64q").on("member-1"),
            ));
        world.workspaces[0].clusters.push("member-1".into());
        world
    }
}
