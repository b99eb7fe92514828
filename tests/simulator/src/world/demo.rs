//! The world that people see first: a shop that builds a small service.

use super::{InputScript, LogScript, Parameter, PipelineWorld, Project, Stage, User, Workspace, World};
use crate::rbac::Role;

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn stages(names: &[(&str, i64)]) -> Vec<Stage> {
    names
        .iter()
        .map(|(name, percent)| Stage {
            name: (*name).into(),
            percent: *percent,
        })
        .collect()
}

const CHECKOUT: &str = "\
+ git clone --depth 1 https://git.example/acme/shop.git .
Cloning into '.'...
remote: Enumerating objects: 214, done.
remote: Compressing objects: 100% (187/187), done.
Receiving objects: 100% (214/214), 96.21 KiB | 6.87 MiB/s, done.
HEAD is now at 4be81d2 Round prices at checkout, not in the basket";

const BUILD: &str = "\
+ go build -trimpath -ldflags \"-X main.version={VERSION}\" -o out/shop ./cmd/shop
go: downloading github.com/go-chi/chi/v5 v5.2.1
go: downloading go.opentelemetry.io/otel v1.35.0
go: downloading golang.org/x/sync v0.12.0
acme.example/shop/internal/price
acme.example/shop/internal/basket
acme.example/shop/internal/checkout
acme.example/shop/cmd/shop
+ ./out/shop --version
shop {VERSION} (linux/amd64)";

const TEST: &str = "\
+ go test -race -coverprofile=reports/coverage.txt ./...
ok  \tacme.example/shop/internal/price\t0.312s\tcoverage: 94.1% of statements
ok  \tacme.example/shop/internal/basket\t0.487s\tcoverage: 88.7% of statements
ok  \tacme.example/shop/internal/checkout\t1.204s\tcoverage: 81.3% of statements
?   \tacme.example/shop/cmd/shop\t[no test files]
+ go tool gotestsum --junitfile reports/junit.xml
DONE 46 tests in 2.003s";

const PUBLISH: &str = "\
+ tar -C out -cf out/app.tar shop
+ registry push registry.example/acme/shop:{VERSION} out/app.tar
Pushing layer sha256:71c0f2… 100%
registry.example/acme/shop:{VERSION} released to {TARGET}
Archiving artifacts
Recording test results";

const FAILED_TEST: &str = "\
+ go test -race -coverprofile=reports/coverage.txt ./...
ok  \tacme.example/shop/internal/price\t0.298s\tcoverage: 94.1% of statements
--- FAIL: TestBasketTotal (0.00s)
    --- FAIL: TestBasketTotal/three_for_two (0.00s)
        basket_test.go:87: total of 3 x 4.99 with three-for-two: got 14.97, want 9.98
FAIL
FAIL\tacme.example/shop/internal/basket\t0.033s
ok  \tacme.example/shop/internal/checkout\t1.187s\tcoverage: 81.3% of statements
FAIL
ERROR: script returned exit code 1";

const JUNIT: &str = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites tests=\"46\" failures=\"0\" time=\"2.003\">
  <testsuite name=\"acme.example/shop/internal/price\" tests=\"18\" failures=\"0\" time=\"0.312\"/>
  <testsuite name=\"acme.example/shop/internal/basket\" tests=\"17\" failures=\"0\" time=\"0.487\"/>
  <testsuite name=\"acme.example/shop/internal/checkout\" tests=\"11\" failures=\"0\" time=\"1.204\"/>
</testsuites>
";

const FAILED_JUNIT: &str = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites tests=\"46\" failures=\"1\" time=\"1.518\">
  <testsuite name=\"acme.example/shop/internal/price\" tests=\"18\" failures=\"0\" time=\"0.298\"/>
  <testsuite name=\"acme.example/shop/internal/basket\" tests=\"17\" failures=\"1\" time=\"0.033\">
    <testcase name=\"TestBasketTotal/three_for_two\">
      <failure>total of 3 x 4.99 with three-for-two: got 14.97, want 9.98</failure>
    </testcase>
  </testsuite>
  <testsuite name=\"acme.example/shop/internal/checkout\" tests=\"11\" failures=\"0\" time=\"1.187\"/>
</testsuites>
";

const COVERAGE: &str = "\
mode: atomic
acme.example/shop/internal/price/round.go:14.32,19.2 3 41
acme.example/shop/internal/basket/total.go:22.51,40.2 9 27
acme.example/shop/internal/checkout/pay.go:31.60,58.2 14 11
";

fn service(pipeline: PipelineWorld, test: &str) -> PipelineWorld {
    let log = [CHECKOUT, BUILD, test, PUBLISH].map(lines).to_vec();
    pipeline.created_by("dev").script(|s| {
        s.duration = 6.0;
        s.stages = stages(&[("Checkout", 10), ("Build", 40), ("Test", 35), ("Publish", 15)]);
        s.log = LogScript::Stages(log);
        s.artifacts = "out/app.tar:6144".into();
        s.files = vec![
            ("reports/junit.xml".into(), JUNIT.into()),
            ("reports/coverage.txt".into(), COVERAGE.into()),
        ];
    })
}

impl World {
    /// Workspace acme, user `dev` (password `demo-password`), project `shop` with pipelines `build`, `web`, `broken`
    /// and `gate`.
    pub fn demo() -> Self {
        let build = service(PipelineWorld::regular("build"), TEST).parameters([
            Parameter::string("VERSION", "1.0.0"),
            Parameter::choice("TARGET", &["staging", "production"]),
        ]);
        let web = service(
            PipelineWorld::multi_branch("web", &["main", "feature/login"]),
            TEST,
        )
        .script(|s| {
            s.duration = 4.0;
        });
        let broken = service(PipelineWorld::regular("broken"), FAILED_TEST).script(|s| {
            s.result = "FAILURE".into();
            s.bad_stage = Some("Test".into());
            s.ends_at_failure = true;
            s.duration = 5.0;
            s.artifacts = String::new();
            s.files = vec![("reports/junit.xml".into(), FAILED_JUNIT.into())];
        });
        let gate = PipelineWorld::regular("gate")
            .created_by("dev")
            .parameters([Parameter::string("VERSION", "1.0.0")])
            .script(|s| {
                s.input = Some(InputScript {
                    id: "Deploy".into(),
                    parameters: "TARGET:staging".into(),
                    ..InputScript::default()
                });
            });
        World::empty()
            .user(User::new("dev", "demo-password"))
            .workspace(Workspace::new("acme", &["host"]).member("dev", Role::workspace_member()))
            .project(
                Project::new("acme", "shop")
                    .owned_by("dev")
                    .pipeline(build)
                    .pipeline(web)
                    .pipeline(broken)
                    .pipeline(gate),
            )
    }
}
