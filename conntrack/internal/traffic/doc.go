// Package traffic makes real traffic of many kinds between two network namespaces and reports
// exactly what it did. It is the reference for collectors of connections. It is no load
// generator: it aims at variety and exact numbers, not at speed.
//
// Each [Scenario] runs a server and a client in processes of their own, which
// are the test binary started again. A test that uses the package therefore
// calls [Main] before anything else:
//
//	func TestMain(m *testing.M) {
//		if ran, err := traffic.Main(); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		} else if ran {
//			os.Exit(0)
//		}
//		os.Exit(m.Run())
//	}
//
// The package works on Linux only; elsewhere it is empty.
package traffic
