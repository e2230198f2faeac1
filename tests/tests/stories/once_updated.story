# A service that runs once and completes is done for good. An update runs it again, one slot after
# the other; those that wait for their turn stay done. What goes back runs again what it ran before.
node n1
image web:1 completes
service once web:1 replicas=2 once monitor=1000
apply
run 2000
show
image web:2 completes
service once web:2 replicas=2 once monitor=1000 delay=5000
apply
run 3000
show
run 5000
image web:3 crashes
service once web:3 replicas=2 once monitor=1000 action=rollback
apply
run 6000
show
