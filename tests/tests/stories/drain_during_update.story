# A slot leaves a drained node when an update begins. It gets the new version where it goes, and the
# old one runs on where it was until that is ready; the others have their turn one after the other.
node n1
node n2
node n3
service web web:1 replicas=3 start-first monitor=1000 check=1000
apply
run 3000
drain n1
run 100
service web web:2 replicas=3 start-first monitor=1000 check=1000
apply
run 500
show
run 7000
show
