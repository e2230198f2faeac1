//! OCI images: references, manifests, verified blobs, archives
