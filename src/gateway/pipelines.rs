//! Pipelines and branches.
use super::{
    client::ProjectScope,
    error::Result,
    wire::pipeline::{Branch, Pipeline},
};

impl ProjectScope {
    /// One pipeline; `NotFound` if there is none of this name.
    pub async fn pipeline(&self, name: &str) -> Result<Pipeline> {
        let _ = name;
        todo!()
    }

    /// All pipelines of the project.
    pub async fn pipelines(&self) -> Result<Vec<Pipeline>> {
        todo!()
    }

    /// The branches of a multi-branch pipeline, as last seen by the remote (up to 10 s old, also while Jenkins is down).
    pub async fn branches(&self, pipeline: &str) -> Result<Vec<Branch>> {
        let _ = pipeline;
        todo!()
    }
}
