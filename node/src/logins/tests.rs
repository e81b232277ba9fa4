//! Who may go on with a login, and how many there may be.

use ringfence_control::LoginMethod;

use super::*;

fn start() -> LoginStart {
    LoginStart {
        id: 0,
        provider: None,
        method: LoginMethod::Device,
        step_up: false,
    }
}

async fn begun(logins: &Logins, asked: &mut mpsc::Receiver<Ask>, uid: u32) -> u64 {
    let answered = async {
        let Some(Ask::Start(start)) = asked.recv().await else {
            panic!("a login is asked for");
        };
        logins.tell(LoginNews::Started(LoginStarted {
            id: start.id,
            url: "https://login.example.com".to_owned(),
            user_code: None,
            state: None,
            expires_in_s: 600,
        }));
        start.id
    };
    let (started, id) = tokio::join!(logins.begin(uid, start()), answered);
    assert_eq!(started.unwrap().id, id);
    id
}

#[tokio::test]
async fn a_login_goes_on_for_the_user_who_began_it() {
    let (logins, mut asked) = Logins::new();
    let id = begun(&logins, &mut asked, 1000).await;

    let other = logins.wait(1001, id).await.unwrap_err();
    assert_eq!(other.code, LocalErrorCode::NotFound);
    logins.tell(LoginNews::Done(LoginDone {
        id,
        session: None,
        why: "no".to_owned(),
    }));
    let own = logins.wait(1000, id).await.unwrap_err();
    assert_eq!((own.code, own.message.as_str()), (LocalErrorCode::Denied, "no"));
    assert!(logins.wait(1000, id).await.is_err(), "it is over");
}

#[tokio::test]
async fn who_cannot_be_asked_is_said_at_once() {
    let (logins, mut asked) = Logins::new();

    let refused = async {
        let message = asked.recv().await.unwrap();
        logins.refuse(&message, "not connected");
    };
    let (answer, ()) = tokio::join!(logins.session(SessionWish::Look), refused);

    assert_eq!(answer.unwrap_err().message, "not connected");
}

#[tokio::test]
async fn logins_are_bounded() {
    let (logins, mut asked) = Logins::new();
    for _ in 0..BOXES_MAX {
        begun(&logins, &mut asked, 1000).await;
    }

    assert!(logins.begin(1000, start()).await.is_err());
}
