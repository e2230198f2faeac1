# The first instance crashes: the second keeps what it has until a person goes on with a better file.
node n1
service web web:1 replicas=2
apply
run 1000
image web:2 crashes
service web web:2 replicas=2
apply
run 20000
show
pause web
service web web:3 replicas=2
apply
run 10000
show
