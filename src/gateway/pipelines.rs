//! Pipelines and branches.

use super::{
    client::ProjectScope,
    error::Result,
    route::{Request, V3, segment},
    telemetry::RouteClass,
    wire::pipeline::{self, Branch, Pipeline},
};

impl ProjectScope {
    /// One pipeline; `NotFound` if there is none of this name.
    pub async fn pipeline(&self, name: &str) -> Result<Pipeline> {
        let project = &self.name;
        let path = format!("{V3}/namespaces/{project}/pipelines/{}", segment(name));
        let what = format!("get pipeline {name:?} of project {project}");
        pipeline::pipeline(
            &self
                .scope
                .exchange(Request::get(RouteClass::Pipelines, path, what))
                .await?
                .reply(),
        )
    }

    /// All pipelines of the project.
    pub async fn pipelines(&self) -> Result<Vec<Pipeline>> {
        let project = &self.name;
        let path = format!("{V3}/namespaces/{project}/pipelines");
        let what = format!("list the pipelines of project {project}");
        pipeline::pipelines(
            &self
                .scope
                .exchange(Request::get(RouteClass::Pipelines, path, what))
                .await?
                .reply(),
        )
    }

    /// The branches of a multi-branch pipeline, as last seen by the remote (up to 10 s old, also while Jenkins is down).
    pub async fn branches(&self, pipeline: &str) -> Result<Vec<Branch>> {
        let project = &self.name;
        let path = format!(
            "{V3}/namespaces/{project}/pipelines/{}/branches",
            segment(pipeline)
        );
        let what = format!("list the branches of pipeline {pipeline:?} of project {project}");
        pipeline::branches(
            &self
                .scope
                .exchange(Request::get(RouteClass::Branches, path, what))
                .await?
                .reply(),
        )
    }
}
