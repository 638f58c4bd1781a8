//! Sweeps over the runner's API.

use super::{Client, Result};
use crate::view::{Stopped, SubmitRequest, Submitted, SweepDetail, SweepsView};
use reqwest::Method;

impl Client {
    pub async fn sweeps(&self) -> Result<SweepsView> {
        self.json(self.call(Method::GET, &["sweeps"], "")).await
    }

    pub async fn sweep(&self, name: &str) -> Result<SweepDetail> {
        self.json(self.call(Method::GET, &["sweeps", name], "")).await
    }

    pub async fn begin_sweep(&self, request: &SubmitRequest) -> Result<Submitted> {
        self.json(self.call(Method::POST, &["sweeps"], "").json(request)).await
    }

    pub async fn resume_sweep(&self, name: &str) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["sweeps", name, "resume"], "")).await
    }
}
