//! The remote of the suites.

use tenantry_simulator::{
    Role, World,
    world::{Parameter, PipelineWorld, Project, User, Workspace},
};

/// The tenant of the suites.
pub const USER: &str = "robo";
/// Its password: also the canary that no log or object may show.
pub const PASSWORD: &str = "robo-Passw0rd-canary";
/// Full name of the project `shop`.
pub const PROJECT: &str = "shopx7k2p";
/// The remote of the suites: workspace `acme`, project `shop` with the scripted pipeline `build` and the multi-branch
/// `web`.
pub fn world(role: Role) -> World {
    acme([shop(role)])
}

/// Workspace `acme` with these projects.
pub fn acme(projects: impl IntoIterator<Item = Project>) -> World {
    let world = World::empty()
        .user(User::new(USER, PASSWORD))
        .workspace(Workspace::new("acme", &["host"]).member(USER, Role::workspace_member()));
    projects.into_iter().fold(world, World::project)
}

/// Project `shop` with the scripted pipeline `build` and the multi-branch `web`.
pub fn shop(role: Role) -> Project {
    let web = PipelineWorld::multi_branch("web", &["main", "feature/login"]).created_by(USER);
    Project::new("acme", "shop")
        .named(PROJECT)
        .owned_by(USER)
        .member(USER, role)
        .pipeline(scripted("build"))
        .pipeline(web)
}

/// A pipeline whose builds go as their parameters say.
pub fn scripted(name: &str) -> PipelineWorld {
    let script = ["DURATION", "QUEUE", "RESULT", "LOG_BYTES", "ARTIFACTS"];
    PipelineWorld::regular(name).created_by(USER).parameters(
        script.iter().map(|name| Parameter::string(name, "")).chain([
            Parameter::string("VERSION", "1.0.0"),
            Parameter::string("CORR", "none"),
            Parameter::string("INPUT", ""),
            Parameter::choice("TARGET", &["staging", "production"]),
        ]),
    )
}
