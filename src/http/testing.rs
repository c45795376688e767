//! What the tests of this module stand on: a broker with a real store, and neither directory nor
//! cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use super::router::router;
use crate::auth::{LockoutRule, SessionTimes};
use crate::broker::{Broker, Parts};
use crate::clock::Clock;
use crate::config::{ServerSettings, Transport};
use crate::lease::Terms;
use crate::mapping::{IdentMap, Maps, Policy};
use crate::store::sqlite::SqliteStore;
