//! Schedules over the runner's API.

use super::{Client, Result};
use crate::view::{ScheduleRequest, SchedulesView, Stopped};
use reqwest::Method;

impl Client {
    pub async fn schedules(&self) -> Result<SchedulesView> {
        self.json(self.call(Method::GET, &["schedules"], "")).await
    }

    pub async fn schedule(&self, request: &ScheduleRequest) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["schedules"], "").json(request)).await
    }

    pub async fn unschedule(&self, name: &str) -> Result<Stopped> {
        self.json(self.call(Method::DELETE, &["schedules", name], "")).await
    }

    pub async fn run_now(&self, name: &str) -> Result<Stopped> {
        self.json(self.call(Method::POST, &["schedules", name, "run"], "")).await
    }
}
