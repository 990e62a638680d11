//! The webhook receiver, over HTTP.

use mail_laser_e2e::init_crypto;
use mail_laser_e2e::receiver::{Behaviour, Counts, Received, Receiver};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn remembers_mails_and_fails_when_told_to() -> Result<(), Box<dyn std::error::Error>> {
    init_crypto();
    let receiver = Receiver::start().await?;
    let url = |path: &str| format!("http://{}{path}", receiver.address());
    let client = Client::new();
    let post = |body: Value| client.post(url("/any/path")).json(&body).send();

    client
        .put(url("/_control"))
        .json(&json!({"status": 503, "times": 1}))
        .send()
        .await?
        .error_for_status()?;
    assert_eq!(post(json!({"subject": "first"})).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(post(json!({"subject": "second"})).await?.status(), StatusCode::OK);

    let received: Vec<Received> = client.get(url("/_received?since=1")).send().await?.json().await?;
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].path.as_str(), received[0].status), ("/any/path", 200));
    assert_eq!(received[0].body, json!({"subject": "second"}));
    assert_eq!(received[0].headers["content-type"], "application/json");

    let counts: Counts = client.get(url("/_count")).send().await?.json().await?;
    assert_eq!((counts.received, counts.accepted), (2, 1));
    client.delete(url("/_received")).send().await?.error_for_status()?;
    assert!(receiver.received(0).is_empty());
    Ok(())
}

#[tokio::test]
async fn refuses_what_is_no_mail_and_no_control() -> Result<(), Box<dyn std::error::Error>> {
    init_crypto();
    let receiver = Receiver::start().await?;
    let url = |path: &str| format!("http://{}{path}", receiver.address());
    let client = Client::new();

    assert_eq!(client.get(url("/any/path")).send().await?.status(), StatusCode::METHOD_NOT_ALLOWED);
    let typo = client.put(url("/_control")).json(&json!({"state": 500})).send().await?;
    assert!(typo.status().is_client_error());
    receiver.behave(Behaviour { status: 204, ..Behaviour::default() });
    assert_eq!(client.post(url("/")).body("no JSON").send().await?.status(), StatusCode::BAD_REQUEST);
    assert_eq!(client.get(url("/_healthz")).send().await?.status(), StatusCode::OK);
    Ok(())
}
