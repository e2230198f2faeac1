//! API: the one front door, for people, command line and machines.
//!
//! In: HTTP requests, of which every one but three needs a token. Out: JSON, streams of it, and
//! images for nodes. It writes desired state to the store and reads how things fare from the
//! control loop's [`View`](crate::control_loop::View); it decides nothing. [`types`] has the table
//! of what there is; `/openapi.json` is made from the handlers themselves.

mod access;
mod applications;
mod ask;
mod body;
mod call;
mod changes;
mod check;
mod check_network;
mod contents;
mod edit;
mod error;
mod events;
mod exec;
mod explain;
mod files;
mod fleet;
pub mod frames;
mod images;
pub mod inspect;
mod load;
mod load_types;
mod log_lines;
mod logs;
mod node_changes;
mod outcome;
mod patch;
mod plan;
mod pulls;
mod registry;
mod rollout_types;
mod rollouts;
mod scale_types;
pub mod server;
mod status;
mod tokens;
pub mod types;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware;
use axum::routing::get;
use limpet_oci::ImageLayout;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::attempts::Attempts;
use crate::control_loop::Handle;
use crate::store::Store;

/// Archives that are taken in at the same time: each has a thread and the disk to itself.
const MAX_UPLOADS: usize = 2;

/// What the handlers work on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    store: Store,
    images: Arc<ImageLayout>,
    control: Handle,
    attempts: Arc<Attempts>,
    uploads: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Limpet controller",
        description = "Desired state in, how it fares out. Errors are ErrorBody. Under /v2/ nodes \
                       fetch images by the pull half of the OCI Distribution Specification \
                       (Basic authentication, node and secret); that part is not described here."
    ),
    components(schemas(types::ChangeView, types::ExecEnd)),
    security(("token" = [])),
    modifiers(&TokenScheme)
)]
struct Document;

struct TokenScheme;

impl utoipa::Modify for TokenScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

impl Api {
    /// The API over a store, an image folder and a control loop. Streams end with `shutdown`.
    #[must_use]
    pub fn new(
        store: Store,
        images: Arc<ImageLayout>,
        control: Handle,
        shutdown: CancellationToken,
    ) -> Self {
        let uploads = Arc::new(Semaphore::new(MAX_UPLOADS));
        Self { store, images, control, attempts: Arc::default(), uploads, shutdown }
    }

    /// All routes, with their doors.
    pub fn router(self) -> Router {
        let (router, document) = described().split_for_parts();
        // A document of ours always has a JSON form; without one the route says nothing.
        let document = document.to_json().unwrap_or_default();
        let serve_document =
            move || async move { ([(header::CONTENT_TYPE, "application/json")], document) };
        router
            .route("/openapi.json", get(serve_document))
            .route("/v2/", get(registry::version))
            .route("/v2/{*path}", get(registry::pull))
            .layer(middleware::from_fn_with_state(self.clone(), access::guard))
            .layer(middleware::map_response(error::in_json))
            .with_state(self)
    }
}

/// The OpenAPI document as JSON.
#[must_use]
pub fn document() -> String {
    described().into_openapi().to_pretty_json().unwrap_or_default()
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::health))
        .routes(routes!(status::readiness))
        .routes(routes!(status::version))
        .routes(routes!(applications::list))
        .routes(routes!(
            applications::show,
            applications::apply,
            applications::change,
            applications::remove
        ))
        .routes(routes!(explain::explain))
        .routes(routes!(inspect::inspect))
        .routes(routes!(plan::plan))
        .routes(routes!(rollouts::status, rollouts::order))
        .routes(routes!(rollouts::history))
        .routes(routes!(fleet::instances))
        .routes(routes!(fleet::nodes))
        .routes(routes!(fleet::node, node_changes::change, node_changes::remove))
        .routes(routes!(logs::logs))
        .routes(routes!(exec::exec))
        .routes(routes!(files::read, files::write))
        .routes(routes!(load::load))
        .routes(routes!(events::events))
        .routes(routes!(changes::watch))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::remove))
        .routes(routes!(contents::list_configs, contents::upload_config))
        .routes(routes!(contents::show_config, contents::name_config, contents::forget_config))
        .routes(routes!(contents::list_secrets, contents::upload_secret))
        .routes(routes!(contents::show_secret, contents::name_secret, contents::forget_secret))
        .routes(routes!(images::list, images::load))
        .routes(routes!(images::remove))
}
